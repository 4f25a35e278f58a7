from __future__ import annotations

import itertools
import time

import pytest

from recbole_llmtrsr.data.item_text import Item, ItemText, one_line
from recbole_llmtrsr.llm.generators.generation import GeneratedText
from recbole_llmtrsr.prompt.templates import DOMAINS
from recbole_llmtrsr.summarizer.jobs import Job
from recbole_llmtrsr.summarizer.quality import FAULTS, faults_of
from recbole_llmtrsr.summarizer.writers.extractive import ExtractiveWriter


def block(*rows: str) -> tuple[Item, ...]:
    table = {str(n): row.split("|") for n, row in enumerate(rows)}
    items = ItemText.from_rows(["title", "genre"], table)
    return tuple(items[token] for token in table)


MOVIES = block(
    "Heat (1995)|Crime Drama", "Fargo (1996)|Crime Comedy", "Casino (1995)|Crime Drama", "Alien (1979)|Horror"
)
SERIES = block(*(f"Star Wars: Episode {n} - The Saga Goes On|Action" for n in ("I", "II", "III", "IV", "V", "VI")))
CHINESE = block("流浪地球|科幻", "三体:地球往事|科幻", "卧虎藏龙|武侠", "英雄|武侠 动作")
JAPANESE = block("千と千尋の神隠し|アニメ", "七人の侍|時代劇", "東京物語|ドラマ")
KOREAN = block("기생충|스릴러", "올드보이|스릴러", "살인의 추억|범죄")
RUSSIAN = block("Солярис|фантастика", "Сталкер|фантастика", "Брат|криминал")
ARABIC = block("الأرض|دراما", "باب الحديد|دراما", "المومياء|تاريخي")
HINDI = block("शोले|एक्शन", "लगान|खेल", "मदर इंडिया|नाटक")
PHONES = block("iPhone 15 Pro Max 手机壳|Apple", "华为 Mate 60 Pro 手机|HUAWEI", "小米 Redmi K70 手机|Xiaomi")
LONG = block(
    "Carbide end mill, four flutes, coated, quarter inch|Cuts steel and titanium at high feed rates. The coating keeps"
    " the edge sharp for long runs, and the unequal helix damps vibration. Comes in a plastic tube with a label that"
    " names batch and grade. Not meant for wood, for which a compression cutter leaves cleaner edges on both faces.",
    "Digital caliper, six inches|Reads in thousandths of an inch or hundredths of a millimetre.",
)
TITLES = tuple(Item((("title", title),), title) for title in ("Heat", "Fargo", "Casino", "Alien", "Seven"))
WORDING = (DOMAINS["movies"].block, DOMAINS["movies"].update, DOMAINS["movies"].merge)


def faults(text: str, items: tuple[Item, ...] = MOVIES, inputs: tuple[str, ...] = ()) -> tuple[str, ...]:
    kind = "merge" if not items else "update" if inputs else "block"
    return faults_of(Job(kind, items, inputs), GeneratedText(one_line(text)), WORDING)


GOOD = [
    (MOVIES, "This user enjoys gritty crime films from the 1990s, often with dark humour and moral ambiguity."),
    (MOVIES, "Crime dramas."),
    (
        MOVIES,
        "The user likes crime stories such as Heat (1995), Fargo (1996) and Casino (1995), and once chose horror.",
    ),
    (MOVIES, "Drama, Comedy, Crime, Drama/Crime, Comedy/Crime, Horror, Crime/Horror, Romantic Comedy, Dark Comedy"),
    (
        MOVIES,
        "The user likes crime films with strong characters. The user likes slow stories with a bitter end. The user"
        " likes the 1990s more than any other decade.",
    ),
    (MOVIES, "**Preferences:** - Crime: gangsters, heists - Comedy: black - Horror: space; 1970s and 1990s."),
    (MOVIES, "Fargo and Heat stand for what this user likes: cold places, careful planning, plans that go wrong."),
    (MOVIES, "Judging by genres, periods, themes and people, this user is drawn to crime drama of the nineties."),
    (MOVIES, "What this user likes best are crime films; horror is a recent interest."),
    (MOVIES, "I can't get enough of gangster films, and lately of science fiction with a cold look."),
    (MOVIES, "I Can't Think Straight and other romances do not interest this user, who prefers crime."),
    (MOVIES, "Sorry to Bother You would suit this user, who likes satire and crime."),
    (MOVIES, "As an AI enthusiast would, the user picks stories of machines and of people who fight them."),
    (MOVIES, "Der Nutzer mag Kriminalfilme der neunziger Jahre, vor allem solche mit schwarzem Humor."),
    (MOVIES, "Ich kann nicht genug von düsteren Krimis bekommen, am liebsten aus den neunziger Jahren."),
    (MOVIES, "L'utilisateur aime les films policiers des années 1990, sombres et bien construits, et l'humour noir."),
    (MOVIES, "Al usuario le gustan las películas de crimen de los noventa, con humor negro y personajes ambiguos."),
    (MOVIES, "Il gostoso e il tragico: all'utente piacciono i polizieschi degli anni novanta."),
    (
        MOVIES,
        "Early on the user chose comedies with a dark edge; later the choices turned to crime dramas with large casts."
        " A single horror film from 1979 suggests an interest in classics of science fiction. Long films are fine.",
    ),
    (
        SERIES,
        "The user follows one saga: Star Wars: Episode I - The Saga Goes On, Star Wars: Episode II - The Saga Goes On,"
        " Star Wars: Episode III - The Saga Goes On and Star Wars: Episode IV - The Saga Goes On.",
    ),
    (SERIES, "Star Wars and nothing but Star Wars: space opera, from Episode I to Episode VI, in order."),
    (MOVIES, "The user likes crime. The user likes horror. The user likes noir. The user likes war."),
    (TITLES, "The user likes Heat, Fargo and Casino."),
    (TITLES[:3], "Heat, Fargo and Casino."),
    (LONG, "Carbide end mill, four flutes, coated, quarter inch."),
    (CHINESE, "该用户喜欢科幻和武侠电影，尤其是宏大的世界观和东方美学。"),
    (CHINESE, "用户喜欢科幻电影，喜欢武侠电影，也喜欢动作电影。"),
    (CHINESE, "喜欢《流浪地球》《三体》等中国科幻作品，对IMAX和CGI特效感兴趣，也看Netflix和HBO的剧。"),
    (CHINESE, "The user likes Chinese science fiction and martial arts films."),
    (CHINESE, "科幻、武侠、动作、历史、古装、战争、悬疑、爱情"),
    (PHONES, "用户购买iPhone、HUAWEI Mate 60 Pro和Xiaomi Redmi K70等手机及配件，看重性能与价格。"),
    (PHONES, "用户偏好 Apple iPhone 15 Pro Max、HUAWEI Mate 60 Pro、Xiaomi Redmi K70。"),
    (JAPANESE, "このユーザーは日本の名作映画が好きで、アニメや時代劇をよく見ています。"),
    (JAPANESE, "時代劇、家族のドラマ、アニメ。静かで美しい映像の作品を好む。"),
    (KOREAN, "이 사용자는 긴장감 있는 한국 범죄 스릴러를 좋아합니다."),
    (RUSSIAN, "Пользователь любит философскую фантастику и криминальные драмы девяностых."),
    (ARABIC, "يفضل المستخدم الأفلام المصرية الكلاسيكية والدراما الاجتماعية."),
    (HINDI, "इस उपयोगकर्ता को पुरानी हिंदी फ़िल्में पसंद हैं, ख़ासकर एक्शन और पारिवारिक नाटक।"),
    (
        LONG,
        "Buys cutting tools for metal: a Carbide end mill, four flutes, coated, quarter inch; and measures exactly.",
    ),
    (LONG, "Metalworking tools with good coatings, and precise measuring instruments such as a six-inch caliper."),
    (LONG, "The user buys a Digital caliper, six inches, and cutters for steel and titanium; prices matter little."),
]

LOOP = "The user likes crime films with strong characters and a bitter end. "
BAD = [
    ("empty", MOVIES, ""),
    ("empty", MOVIES, " ... "),
    ("empty", CHINESE, "。"),
    ("repeats", MOVIES, "the user likes " * 12),
    ("repeats", MOVIES, LOOP * 3),
    ("repeats", MOVIES, f"This user has a taste of many sides. {LOOP}{LOOP}"),
    ("repeats", MOVIES, "The user likes crime, crime, crime, crime, crime, crime, crime, crime, crime, crime, crime"),
    ("repeats", MOVIES, "hahahahahahahahahahahahahahahahahahahahahaha"),
    ("repeats", MOVIES, "Likes crime films!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!"),
    ("repeats", MOVIES, "Heat (1995), Fargo (1996), " * 7),
    (
        "repeats",
        MOVIES,
        "Early on the user chose comedies with a dark edge; later the choices turned to crime dramas with large casts."
        " A single horror film from 1979 suggests an interest in classics of science fiction." + " and so on" * 9,
    ),
    ("repeats", CHINESE, "用户喜欢" * 10),
    ("repeats", CHINESE, "该用户喜欢科幻和武侠电影。" * 3),
    ("repeats", JAPANESE, "このユーザーは映画が好きです。" * 4),
    ("repeats", RUSSIAN, "Пользователь любит фантастику. " * 4),
    ("repeats", ARABIC, "يفضل المستخدم الدراما " * 4),
    ("repeats", HINDI, "उपयोगकर्ता को फ़िल्में पसंद हैं " * 4),
    (
        "echoes",
        MOVIES,
        "Describe in at most three sentences what this user likes, judging by genres and themes. Crime.",
    ),
    ("echoes", MOVIES, "The user likes crime. Write only the description."),
    ("echoes", MOVIES, "A user watched these movies, oldest first: crime films."),
    ("echoes", MOVIES, "Since then the user watched these movies, oldest first: - Alien"),
    ("echoes", MOVIES, "Descriptions of one user's taste, each from movies the user watched in one period: crime"),
    ("echoes", MOVIES, "\n".join(f"- {item.line}" for item in MOVIES)),
    ("echoes", MOVIES, " ".join(f"{n}. {item.line}" for n, item in enumerate(MOVIES, start=1))),
    ("echoes", TITLES, "- Heat - Fargo - Casino - Alien - Sev"),
    ("echoes", CHINESE, "\n".join(f"- {item.line}" for item in CHINESE)),
    ("echoes", LONG, f"- {LONG[0].line[:330]}"),
    ("wrong_script", MOVIES, "该用户喜欢犯罪电影和黑色幽默。"),
    ("wrong_script", MOVIES, "このユーザーは犯罪映画が好きです。"),
    ("wrong_script", MOVIES, "Пользователь любит криминальные драмы, например Heat и Fargo."),
    ("wrong_script", MOVIES, "이 사용자는 범죄 영화를 좋아합니다."),
    ("wrong_script", MOVIES, "इस उपयोगकर्ता को अपराध फ़िल्में पसंद हैं"),
    ("wrong_script", CHINESE, "Пользователь любит фантастику."),
    ("wrong_script", JAPANESE, "이 사용자는 일본 영화를 좋아합니다."),
    ("refuses", MOVIES, "I'm sorry, but I can't help with that."),
    ("refuses", MOVIES, "I\u2019m sorry, I can\u2019t describe this person."),
    ("refuses", MOVIES, "I cannot draw conclusions about a person from a list of films."),
    ("refuses", MOVIES, "Unfortunately, I am unable to tell what this user likes."),
    ("refuses", MOVIES, "As an AI language model, I have no opinion of films."),
    ("refuses", MOVIES, "**I apologize**, this is not something to describe."),
    ("refuses", MOVIES, "I don't have enough information on this user."),
    ("refuses", MOVIES, "Es tut mir leid, aber dazu sage ich nichts."),
    ("refuses", MOVIES, "Als KI-Sprachmodell habe ich dazu keine Meinung."),
    ("refuses", MOVIES, "Ich kann diese Anfrage nicht beantworten."),
    ("refuses", MOVIES, "Je suis désolé, mais ce n'est pas possible."),
    ("refuses", MOVIES, "En tant qu'IA, je n'ai pas d'avis."),
    ("refuses", MOVIES, "Je ne peux pas répondre à cette demande."),
    ("refuses", MOVIES, "Lo siento, pero eso no es posible."),
    ("refuses", MOVIES, "No puedo ayudar con esta solicitud."),
    ("refuses", MOVIES, "Como modelo de lenguaje, no tengo opiniones."),
    ("refuses", CHINESE, "很抱歉，我无法总结这位用户的喜好。"),
    ("refuses", CHINESE, "作为一个人工智能语言模型，我没有观点。"),
    ("refuses", CHINESE, "我无法回答这个问题。"),
    ("refuses", JAPANESE, "申し訳ありませんが、お答えできません。"),
    ("refuses", JAPANESE, "AIとして、意見はありません。"),
]


@pytest.mark.parametrize(("items", "text"), GOOD)
def test_a_good_summary_has_no_fault(items: tuple[Item, ...], text: str) -> None:
    assert faults(text, items) == ()


@pytest.mark.parametrize(("fault", "items", "text"), BAD)
def test_a_bad_summary_has_its_fault_and_no_other(fault: str, items: tuple[Item, ...], text: str) -> None:
    assert faults(text, items) == (fault,)


def test_an_answer_that_reached_the_limit_is_cut_off() -> None:
    assert faults_of(Job("block", MOVIES), GeneratedText("Crime", finish="length"), WORDING) == ("cut_off",)


@pytest.mark.parametrize(
    "text",
    [
        "Okay, so I need to summarize what this person likes. Let me look at the items one by one. First there is",
        "Alright, let's see: the films are Heat and Fargo, so",
        "Hmm, the user watched Heat, which is a crime film, and",
        "We need to write a short description. The films are",
        "I need to describe what this user likes, so",
        "Let me look at the list. Heat is a crime film",
        "The user is asking for a description of",
        "The user wants me to describe in at most three",
        "**Thinking Process:** 1. Analyze the request",
        "First, I have to look at",
        "好的，我需要总结用户的偏好",
        "嗯，用户看了这些电影",
        "Okay, the user wants a short description. They",
        "Got it, let's look at the films first.",
        "analysisWe need to describe",
    ],
)
def test_thoughts_without_a_mark_that_reach_the_limit_are_told_from_an_answer(text: str) -> None:
    assert "thinks" in faults_of(Job("block", MOVIES), GeneratedText(text, finish="length"), WORDING)
    assert "thinks" not in faults_of(Job("block", MOVIES), GeneratedText(text), WORDING)


@pytest.mark.parametrize(
    "text",
    [text for _, text in GOOD]
    + [
        "The user wants crime films of",
        "I, Robot and We",
        "Okay, here's a summary of the user's preferences: crime",
        "Alright, the user likes crime films",
        "Got it. I have put together what they like: crime",
        "Let's summarize: they like crime",
        "好的，以下是用户的偏好总结：犯罪片",
        "首先，用户喜欢犯罪片",
    ],
)
def test_a_summary_that_is_cut_off_is_no_thought(text: str) -> None:
    assert "thinks" not in faults_of(Job("block", MOVIES), GeneratedText(text, finish="length"), WORDING)


def test_several_faults_come_in_the_order_of_their_list() -> None:
    answer = GeneratedText("很抱歉，我无法总结" * 9, finish="length")
    assert faults_of(Job("block", MOVIES), answer, WORDING) == ("cut_off", "repeats", "wrong_script", "refuses")
    assert FAULTS == ("empty", "thinks", "cut_off", "repeats", "echoes", "wrong_script", "refuses")


@pytest.mark.parametrize(
    "job", [Job("block", (Item((), "no text available"),)), Job("merge", (), ("", "")), Job("update", (), ("",))]
)
def test_nothing_may_be_said_where_there_was_nothing_to_read(job: Job) -> None:
    assert faults_of(job, GeneratedText(""), WORDING) == ()


@pytest.mark.parametrize(
    "job", [Job("merge", (), ("", "Crime.")), Job("update", (Item((), "no text available"),), ("a",))]
)
def test_an_earlier_text_is_something_to_read(job: Job) -> None:
    assert faults_of(job, GeneratedText(""), WORDING) == ("empty",)


def test_an_unchanged_earlier_summary_is_no_echo() -> None:
    text = "Likes crime films of the nineties, with dark humour and many characters, and cold places."
    assert faults(text, MOVIES, (text,)) == ()
    assert faults(text, (), (text, "Likes horror.")) == ()


def test_all_earlier_summaries_one_after_the_other_are_an_echo() -> None:
    texts = ("Likes crime films of the nineties.", "Prefers quiet horror.", "Has turned to comedies of manners.")
    assert faults("- " + "\n- ".join(texts), (), texts) == ("echoes",)


def test_lines_in_another_order_or_fewer_than_half_are_no_echo() -> None:
    assert faults(", ".join(item.line for item in reversed(MOVIES))) == ()
    many = MOVIES + SERIES
    assert faults(", ".join(item.line for item in many[:4]), many) == ()


def test_an_earlier_text_that_loops_excuses_no_loop() -> None:
    assert faults(LOOP * 8, MOVIES, (LOOP * 8,)) == ("repeats",)


def test_titles_of_a_series_may_come_from_several_earlier_texts() -> None:
    texts = tuple(
        f"Liked lately: Precise printing filament, very strong, {colour}." for colour in ("red", "blue", "tan")
    )
    quotes = "Precise printing filament, very strong, "
    assert faults(f"{quotes}red | {quotes}blue | {quotes}tan", (), texts) == ()
    assert faults(f"{quotes}red | {quotes}blue | {quotes}tan") == ("repeats",)


def test_the_script_of_an_overridden_wording_is_right() -> None:
    answer = GeneratedText("Пользователь любит криминальные драмы.")
    assert faults_of(Job("block", MOVIES), answer, ("Опиши вкус пользователя: {items}",)) == ()


def test_a_foreign_name_among_the_items_makes_no_script_right() -> None:
    items = block(*["A film of a long English title and more words|Crime Drama Romance War"] * 20, "英雄|War")
    assert faults("该用户喜欢犯罪电影和黑色幽默。", items) == ("wrong_script",)


def test_a_sentence_of_an_overridden_wording_is_an_echo_in_any_script() -> None:
    wording = ("以下是用户看过的电影。请用三句话描述这位用户的喜好。\n{items}",)
    answer = GeneratedText("请用三句话描述这位用户的喜好。科幻。")
    assert faults_of(Job("block", CHINESE), answer, wording) == ("echoes",)


def test_extracts_have_no_fault() -> None:
    table = {str(n): [item.fields[0][1], item.fields[1][1]] for n, item in enumerate(MOVIES + SERIES)}
    catalogue = ItemText.from_rows(["title", "genre"], table)
    writer = ExtractiveWriter(catalogue)
    jobs = [Job("block", tuple(pair)) for pair in itertools.combinations(catalogue.items.values(), 2)]
    answers = dict(itertools.chain.from_iterable(writer.run(jobs)))
    assert len(answers) == 45
    written = {i: answer for i, answer in answers.items() if isinstance(answer, GeneratedText)}
    assert {faults_of(jobs[i], answer, WORDING) for i, answer in written.items()} == {()}


def test_time_grows_with_the_length_and_not_with_its_square() -> None:
    def seconds(n: int) -> float:
        text = " ".join(str(i * 7919 % 1_000_003) for i in range(n))
        items = tuple(Item((("title", part),), part) for part in text.split(" ", 10))
        begin = time.process_time()
        faults(f"{text}!", items)
        return time.process_time() - begin

    assert min(seconds(60_000) for _ in range(2)) < 40 * min(seconds(6_000) for _ in range(3))
