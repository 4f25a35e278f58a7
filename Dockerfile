# An image for CPUs, from a checkout:
#   docker build --tag recbole-llmtrsr .
#   docker run --rm --volume "$PWD:/work" recbole-llmtrsr run --model=LLMTRSR --dataset=ml-100k
# By default pip installs torch with CUDA, several GB that a CPU does not need. A build with
# --build-arg TORCH_INDEX=<index of PyTorch's CPU wheels, from its installation page> leaves these out.
FROM python:3.11-slim

ARG TORCH_INDEX=""
WORKDIR /source
COPY . .
RUN pip install --no-cache-dir ${TORCH_INDEX:+--extra-index-url "$TORCH_INDEX"} ".[serving,parquet,tune]"

RUN useradd --create-home runner && mkdir /work && chown runner /work
USER runner
WORKDIR /work
ENTRYPOINT ["recbole-llmtrsr"]
CMD ["--help"]
