"""Detects faults of a summary from its text and its job.

The checks detect common failures of language models in any language. They accept what good summaries do, such as
quoting titles, listing genres, being short, or naming Latin brands in Chinese text. Each check takes time linear in the
length of the texts.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from functools import lru_cache

from recbole_llmtrsr.llm.generators.generation import GeneratedText
from recbole_llmtrsr.summarizer.jobs import Job

FAULTS: tuple[str, ...] = ("empty", "thinks", "cut_off", "repeats", "echoes", "wrong_script", "refuses")
ALWAYS_REPLACED = frozenset({"empty", "thinks"})  # replaced by an extract, whatever faulty_summaries says

# Lengths are those of text without spaces. Wide characters (Chinese, Japanese, Korean) count twice, since they carry
# more information.
PASSAGE = 16  # about three words; shorter passages recur in any text ('the user likes')
MAX_REPEATED = 0.25  # share of the passages; good summaries stay below 0.2, repeating one sentence of three gives 0.33
MAX_TIMES = 5  # repetitions of a passage; a loop at the end of a long good text has more
MAX_QUOTED = 3  # repetitions of a passage that earlier texts justify; with more, a looping text would excuse the next

MIN_SENTENCE = 20  # shorter sentences of the wording can occur by chance
MAX_SENTENCE = 45  # the beginning of a longer sentence suffices, since nine equal words do not occur by chance
MIN_COPIED_LINES = 4  # a summary may quote the titles of three items, which can be their whole text
MIN_COPIED_SHARE = 0.75  # share of the answer, such as four lines and a fifth that was cut off
MIN_COPIED_LENGTH = 160  # length of one passage; longer than nearly all titles, which may be quoted

MIN_DOMINANT = 0.5  # share of an answer's letters
MAX_FOREIGN = 0.02  # share of the input's letters, such as a foreign name or two

_WIDE = re.compile(r"[\u1100-\u11ff\u2e80-\ua4cf\uac00-\ud7ff\uf900-\ufaff\uff00-\uff60\U00020000-\U0003ffff]")
_SENTENCE_END = re.compile(r"(?<=[.?!:])\s+|(?<=[\u3002\uff1f\uff01\uff1a])|\n|\{\w*\}")
_EAST_ASIAN = ("CJK", "HIRAGANA", "KATAKANA", "KATAKANA-HIRAGANA", "IDEOGRAPHIC")

# The patterns are case-sensitive to exclude titles ("I Can't Think Straight"), and exclude phrases of enthusiasm.
_REFUSALS = (
    r"(?:Unfortunately, |Sorry, (?:but )?)?[Ii] (?:can ?not|can't|could not|couldn't)\b"
    r"(?! get enough| resist| wait| live without| do without| stop| help but| imagine)",
    r"(?:Unfortunately, |Sorry, (?:but )?)?[Ii](?:'m| am) (?:unable|not able|not allowed|(?:just |only )?an AI)\b",
    r"(?:[Ii](?:'m| am) (?:\w+ )?)?[Ss]orry(?:,? but\b|,? for the\b|,? I'm\b|,? I (?:can|am|do|have|was)|[.!])",
    r"[Ii] (?:do not|don't) have (?:enough|sufficient|access|any|the ability)\b",
    r"(?:[Mm]y apologies|[Ii] apologi[sz]e)\b",
    r"[Aa]s an? (?:AI|artificial intelligence|(?:AI |large )?language model)"
    r"(?: (?:language )?(?:model|assistant|system|chatbot))?(?:,| I\b| (?:developed|created|trained)\b)",
    # German
    r"(?:Es )?[Tt]ut mir (?:sehr )?[Ll]eid|Entschuldigung, |(?:Leider|Bedauerlicherweise) (?:kann|darf|bin) ich\b",
    r"Ich kann (?:leider |hier |dazu |das |dies |diese \w+ )?(?:nicht\b(?! genug)|keine?\b)",
    r"Ich bin (?:leider )?nicht in der Lage",
    r"Als (?:eine? )?(?:KI|künstliche Intelligenz|(?:KI-|großes )?Sprachmodell)(?:-\w+)?(?:,| kann| bin| habe)",
    # French
    r"(?:Je suis (?:vraiment )?)?[Dd]ésolée?\b",
    r"(?:Malheureusement, )?[Jj]e ne (?:peux|puis|suis) pas\b(?! me passer| résister| m'empêcher)",
    r"En tant (?:qu'|que )(?:IA,|intelligence artificielle,|modèle de langage|assistant (?:IA|virtuel))",
    # Spanish
    r"(?:Lo siento|Lo lamento|Lamento|Disculpa)\b",
    r"(?:Lamentablemente, |Desafortunadamente, )?(?:[Nn]o puedo|[Nn]o me es posible)\b(?! vivir sin| dejar| resistir)",
    r"Como (?:una? )?(?:IA|inteligencia artificial|modelo de (?:lenguaje|IA)|asistente (?:de IA|virtual)),",
    # Chinese
    r"(?:非常|很|十分)?(?:抱歉|对不起|對不起)|我(?:无法|無法|不能|没有办法)|(?:无法|無法)(?:提供|回答|总结|總結|生成|完成)",
    r"作[为為](?:一[个個名])?(?:(?:AI|人工智[能慧])?大?型?(?:语言模型|語言模型|助手)|(?:AI|人工智[能慧])[,\uff0c])",
    # Japanese
    r"(?:大変|誠に)?(?:申し訳|すみません|ごめんなさい|恐れ入りますが)",
    r"(?:私は)?(?:AI|人工知能|(?:大規模)?言語モデル)(?:言語モデル|アシスタント)?(?:として|なので|であるため|です)",
)
_REFUSAL = re.compile("|".join(_REFUSALS))
# Beginnings of reasoning without marks. Answers can begin alike, but they end before the token limit.
_PLANS = re.compile(
    r"(?:analysis)?(?:"  # a channel's name, if a server removed the marks around it
    r"Hmm+[,.]|Thinking process\b"
    r"|(?:Okay|OK|Alright|All right|Got it)[,.] (?:so (?:I|we)\b|the (?:user|task) (?:wants|asks|is asking)\b)"
    r"|(?:(?:Okay|OK|Alright|All right|Got it)[,.] )?(?:(?:so|first|now),? )?(?:"
    r"(?:I|we) (?:(?:need|have|am asked|are asked|am trying|are trying) to|should|must)\b"
    r"|(?:I'm|we're) (?:asked|trying) to\b"
    r"|let(?:'s| me| us) (?:see|look|think|try|start|begin|break|go|check|figure|tackle|work|read|first|analy[sz]e)\b"
    r"|the (?:user|task|prompt|instruction) (?:wants me|is asking|asks|asked|is to)\b)"
    r"|\u55ef[,\uff0c\u3002]"
    r"|(?:(?:好的|首先|好吧)[,\uff0c\u3002])?"
    r"(?:(?:用户|使用者)(?:希望|要求|让)我|我(?:现在)?需要|(?:让我|我来)(?:看|想|分析)))",
    re.IGNORECASE,
)
_ORNAMENT = " \t*_#>-"


def faults_of(job: Job, answer: GeneratedText, wording: Sequence[str]) -> tuple[str, ...]:
    """Find the faults of an answer, in the order of ``FAULTS``; most answers have none.

    Args:
        job: that the writer answered.
        answer: of the writer.
        wording: templates of its prompts; a copied sentence of them is an echo; answers may use their script.
    """
    text, is_cut = answer.text, answer.finish == "length"
    begin = text.lstrip(_ORNAMENT).replace("\u2019", "'")
    found = (
        _is_empty(job, text),
        is_cut and _PLANS.match(begin) is not None,
        is_cut,
        _repeats(job, text),
        _echoes(job, text, tuple(wording)),
        _is_in_wrong_script(job, text, tuple(wording)),
        _REFUSAL.match(begin) is not None,
    )
    return tuple(fault for fault, is_so in zip(FAULTS, found, strict=True) if is_so)


def _is_empty(job: Job, text: str) -> bool:
    """Whether the text has no letters and digits although its job has content."""
    return not any(map(str.isalnum, text)) and (any(job.inputs) or any(item.fields for item in job.items))


def _repeats(job: Job, text: str) -> bool:
    """Whether passages recur more often than in the job's texts, in which items of one series begin alike."""
    times = Counter(_passages(text))
    if not _too_much(times, times.total()):
        return False
    earlier = Counter(passage for source in job.inputs for passage in _passages(source))
    quotable = Counter({passage: min(n, MAX_QUOTED) for passage, n in earlier.items()})
    for item in job.items:
        quotable.update(_passages(item.line))
    return _too_much(Counter({p: n - max(0, quotable[p] - 1) for p, n in times.items()}), times.total())


def _too_much(times: Counter[str], n_passages: int) -> bool:
    again = [n - 1 for n in times.values() if n > 1]
    return sum(again) > MAX_REPEATED * n_passages or max(again, default=0) >= MAX_TIMES


def _passages(text: str) -> list[str]:
    text = _squeezed(text)
    return [text[i : i + PASSAGE] for i in range(len(text) - PASSAGE + 1)]


def _echoes(job: Job, text: str, wording: tuple[str, ...]) -> bool:
    """Whether the text copies a sentence of the wording, most lines of the list or one long passage of the items."""
    text = _squeezed(text)
    return any(sentence in text for sentence in _sentences(wording)) or _copies_lines(job, text) or _copies(job, text)


def _copies_lines(job: Job, text: str) -> bool:
    lines = [_squeezed(line) for line in (*job.inputs, *(item.line for item in job.items)) if line]
    n_copied = length = position = 0
    for line in lines:
        begin = text.find(line, position)
        if begin >= 0:
            n_copied, length, position = n_copied + 1, length + len("-" + line), begin + len(line)
    # Copies of two earlier summaries are not quotes.
    fewest = max(MIN_COPIED_LINES if job.items else 2, len(lines) // 2 + 1)
    return n_copied >= fewest and length >= MIN_COPIED_SHARE * len(text)


def _copies(job: Job, text: str) -> bool:
    """Whether the answer without its edges is one passage of the items, as in a copy of long texts."""
    edge = int(len(text) * (1 - MIN_COPIED_SHARE) / 2)
    middle = text[edge : len(text) - edge]
    return len(middle) >= MIN_COPIED_LENGTH and middle in _squeezed("- ".join(item.line for item in job.items))


@lru_cache(maxsize=16)
def _sentences(wording: tuple[str, ...]) -> tuple[str, ...]:
    """Beginnings of the wording's sentences that occur only in copies."""
    sentences = (_squeezed(sentence or "") for text in wording for sentence in _SENTENCE_END.split(text))
    return tuple(dict.fromkeys(sentence[:MAX_SENTENCE] for sentence in sentences if len(sentence) >= MIN_SENTENCE))


def _squeezed(text: str) -> str:
    text = "".join(text.split()).casefold()
    return text if text.isascii() else _WIDE.sub("\\g<0>\0", text)


def _is_in_wrong_script(job: Job, text: str, wording: tuple[str, ...]) -> bool:
    """Whether the text's dominant script is rare both in the job's texts and in the wording."""
    letters = _scripts((text,))
    script, n_letters = max(letters.items(), key=lambda pair: pair[1], default=("", 0))
    if n_letters <= MIN_DOMINANT * letters.total():
        return False
    # Separately, since the wording's share would be small beside a long list of items.
    asked, read = _scripts(wording), _scripts((*job.inputs, *(item.line for item in job.items)))
    return all(part[script] <= MAX_FOREIGN * part.total() for part in (asked, read))


def _scripts(texts: Iterable[str]) -> Counter[str]:
    """Number of letters by script."""
    characters: Counter[str] = Counter()
    for text in texts:
        characters.update(text)
    scripts: Counter[str] = Counter()
    for character, count in characters.items():
        if character.isalpha():
            scripts[_script(character)] += count
    return scripts


@lru_cache(maxsize=20_000)
def _script(letter: str) -> str:
    """The first word of a letter's Unicode name; Japanese and Chinese scripts, which Japanese mixes, count as one."""
    name = unicodedata.name(unicodedata.normalize("NFKC", letter)[0], "UNKNOWN").split()[0]
    return "CJK" if name in _EAST_ASIAN else name
