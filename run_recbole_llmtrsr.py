"""Train, evaluate and compare: python run_recbole_llmtrsr.py --model=LLMTRSR --dataset=ml-100k"""

import sys

from recbole_llmtrsr.__main__ import main

if __name__ == "__main__":
    sys.exit(main())
