"""The scripts, the language and the content words of a text, and the names of languages.

So that a revision or an answer in the wrong language is seen. Scripts come from the names of the characters. Languages that
share a script are distinguished by their function words (`languages.json`): few words, but in every sentence, and a text of
made-up or rare words keeps them. What is not clear is None, never a guess. `language_name` and `language_code` go from a
language to what a prompt calls it and to its ISO 639-1 code.

Content words are compared without their endings, so that "boils barley" keeps "boiled barley". English endings go by rule;
words of other alphabets are compared by their first letters (their endings carry the grammar), and scripts without spaces by
pairs of characters.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence, Set
from difflib import get_close_matches
from functools import cache, lru_cache
from pathlib import Path

from buckler.data.reading import read_json
from buckler.errors import ConfigError

_FAMILY = {"HIRAGANA": "CJK", "KATAKANA": "CJK", "KATAKANA-HIRAGANA": "CJK"}
"""Japanese mixes these freely, so that their shares say nothing."""

LEAST_HITS = 3
"""Function words that a language must have in a text to be its language."""
LEAST_SHORT = 2
"""Function words that a question must have to show that it is not in a certain other language."""
LEAST_SHARE = 0.12
"""Their least share of the words; running text has 0.3 and more, a list of nouns far less."""
LEAST_LEAD = 2.0
"""How many times the hits of the next language."""

_STOP = frozenset(
    (
        "a also an and are as at be been bring brings but by call called calls can could did do does find finds for found "
        "from get gets give given gives go goes gone got had has have he her him his how i if in into is it its just keep "
        "keeps kept let lets look looks made make makes making may me more most much my need needed needs no not of on or "
        "our people put puts said say says she should so some such take taken takes tell tells than that the their them "
        "then there these they thing things this those to told too use used uses want wants was we were what when where "
        "which who why will with would you your"
    ).split()
)
"""English function words, which carry no content."""
_UNSPACED = re.compile("[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff]+")
"""Thai, Lao, Burmese, Khmer, kana and Chinese characters: there no space tells where a word ends."""
_JOINS = "-'\u2019"
_ASCII_GAPS = re.compile("[^a-z0-9'-]+")
_DOUBLED = re.compile(r"([b-df-hj-np-rtv-xz])\1$")
_FIRST_LETTERS = 5
"""What is compared of a word that is not written in Latin letters (Can et al., 2008, found five to serve Turkish)."""


def scripts(text: str) -> dict[str, float]:
    """Share of each script among the letters of `text`; empty if there are none."""
    letters: Counter[str] = Counter()
    for char, times in Counter(text).items():
        if char.isalpha():
            name = unicodedata.name(char, "UNKNOWN").split(" ")[0]
            name = "LATIN" if name in ("FEMININE", "MASCULINE", "FULLWIDTH") else name
            letters[_FAMILY.get(name, name)] += times
    return {name: times / letters.total() for name, times in letters.items()}


def script_distance(one: str, other: str) -> float:
    """Half the summed differences of the scripts' shares: 0 for one mix, 1 for nothing in common; 0 where one has no letters."""
    here, there = scripts(one), scripts(other)
    if not here or not there:
        return 0.0
    return sum(abs(here.get(name, 0.0) - there.get(name, 0.0)) for name in here.keys() | there.keys()) / 2


def language(text: str) -> str | None:
    """The two-letter code of the language of `text`; None where it is not clear or not one of those known here."""
    written = scripts(text)
    if written.get("CJK", 0.0) > 0.5:
        kana = len(re.findall("[\u3041-\u3096\u30a1-\u30fa]", text))
        han = len(re.findall("[\u3400-\u9fff]", text))
        return None if kana + han < 8 else "ja" if kana > 0.2 * (kana + han) else "zh" if kana == 0 else None
    words = _words(text)
    (first, most), (_, next_most) = _hits(words).most_common(2)
    if most < max(LEAST_HITS, LEAST_SHARE * len(words)) or most < LEAST_LEAD * next_most:
        return None
    return first


def wrong_language(question: str, answer: str) -> str:
    """How an answer is in another language or script than its question; "" if it is not, or if that is not clear.

    A question is often too short to tell its language among all; that it is not the answer's language shows in fewer words.
    """
    written_in, expected = language(answer), language(question)
    if written_in is not None and expected is None:
        hits = _hits(_words(question))
        (first, most), *_ = hits.most_common(1)
        expected = first if most >= LEAST_SHORT and most >= LEAST_LEAD * hits[written_in] else None
    if written_in is not None and expected is not None:
        return f"in another language: {written_in}, asked in {expected}" if written_in != expected else ""
    written, wanted = _script(answer, 8), _script(question, 4)
    # a question with a little of the answer's script may well be in it: names of firms outweigh a few Chinese characters
    if written is None or wanted is None or scripts(question).get(written, 0.0) > 0.1:
        return ""
    return f"in another script: {written.lower()}, asked in {wanted.lower()}"


def _script(text: str, least: int) -> str | None:
    """The script of most letters of a text, if it has as many letters as that."""
    if sum(map(str.isalpha, text)) < least:
        return None
    return next((name for name, share in scripts(text).items() if share > 0.5), None)


def _words(text: str) -> list[str]:
    return re.findall(r"[^\W\d_]+", text.lower())


def _hits(words: Sequence[str]) -> Counter[str]:
    """How many of the words are function words of each language."""
    return Counter({code: sum(word in known for word in words) for code, known in _function_words().items()})


@cache
def _function_words() -> Mapping[str, frozenset[str]]:
    table = read_json(Path(__file__).with_name("languages.json"))
    assert isinstance(table, dict)
    return {code: frozenset(str(words).split()) for code, words in table.items()}


def content_words(text: str) -> set[str]:
    """The words that carry the information, case folded, without endings, function words and one-letter words."""
    return set(content_list(text))


def content_list(text: str) -> list[str]:
    """The same in their order, as often as they stand there (pairs of characters come after the words)."""
    folded = unicodedata.normalize("NFKC", text).casefold()
    spaced = _UNSPACED.sub(" ", folded)
    if spaced.isascii():
        bare = _ASCII_GAPS.sub(" ", spaced)
    else:
        bare = "".join(char if char in _JOINS or unicodedata.category(char)[0] in "LMN" else " " for char in spaced)
    words = (word.strip(_JOINS) for word in bare.split())
    stems = [_stem(word) for word in words if word and word not in _STOP and (len(word) > 1 or not word.isascii())]
    for run in _UNSPACED.findall(folded):
        stems += [run[at : at + 2] for at in range(max(len(run) - 1, 1))]
    return stems


def kept_share(before: str, after: str, known: str = "") -> float:
    """Share of the content words of `before`, without those of `known`, that stand in `after`; 1 if there are none."""
    return share_of(content_words(before) - content_words(known), content_words(after))


def share_of(wanted: Set[str], present: Set[str]) -> float:
    """Share of the wanted words that were found; 1 if none is wanted."""
    return len(wanted & present) / len(wanted) if wanted else 1.0


@lru_cache(maxsize=1 << 16)
def _stem(word: str) -> str:
    if word.isascii():
        return _english_stem(word)
    if "\u0600" <= word[0] <= "\u06ff":
        word = re.sub("^\u0648?(?:\u0627\u0644|\u0644\u0644|\u0628\u0627\u0644)(?=...)", "", word)  # the Arabic article
    return word[:_FIRST_LETTERS] if "LATIN" not in unicodedata.name(word[0], "") else word


def _english_stem(word: str) -> str:
    for ending, least in (("ings", 3), ("ing", 3), ("ied", 2), ("ies", 2), ("ed", 3), ("es", 3), ("ly", 3), ("s", 3)):
        if word.endswith(ending) and len(word) - len(ending) >= least and not word.endswith("ss"):
            word = word[: -len(ending)] + ("y" if ending in ("ied", "ies") else "")
            break
    return _DOUBLED.sub(r"\1", word).removesuffix("e") if len(word) > 3 else word


_TABLE = (
    "aa Afar/ab Abkhazian/ae Avestan/af Afrikaans/ak Akan/am Amharic/an Aragonese/ar Arabic/as Assamese/av Avaric/"
    "ay Aymara/az Azerbaijani/ba Bashkir/be Belarusian/bg Bulgarian/bi Bislama/bm Bambara/bn Bengali/bo Tibetan/"
    "br Breton/bs Bosnian/ca Catalan/ce Chechen/ch Chamorro/co Corsican/cr Cree/cs Czech/cu Church Slavonic/cv Chuvash/"
    "cy Welsh/da Danish/de German/dv Divehi/dz Dzongkha/ee Ewe/el Greek/en English/eo Esperanto/es Spanish/et Estonian/"
    "eu Basque/fa Persian/ff Fulah/fi Finnish/fj Fijian/fo Faroese/fr French/fy Western Frisian/ga Irish/gd Scottish Gaelic/"
    "gl Galician/gn Guarani/gu Gujarati/gv Manx/ha Hausa/he Hebrew/hi Hindi/ho Hiri Motu/hr Croatian/ht Haitian Creole/"
    "hu Hungarian/hy Armenian/hz Herero/ia Interlingua/id Indonesian/ie Interlingue/ig Igbo/ii Sichuan Yi/ik Inupiaq/io Ido/"
    "is Icelandic/it Italian/iu Inuktitut/ja Japanese/jv Javanese/ka Georgian/kg Kongo/ki Kikuyu/kj Kuanyama/kk Kazakh/"
    "kl Greenlandic/km Khmer/kn Kannada/ko Korean/kr Kanuri/ks Kashmiri/ku Kurdish/kv Komi/kw Cornish/ky Kyrgyz/la Latin/"
    "lb Luxembourgish/lg Ganda/li Limburgish/ln Lingala/lo Lao/lt Lithuanian/lu Luba-Katanga/lv Latvian/mg Malagasy/"
    "mh Marshallese/mi Maori/mk Macedonian/ml Malayalam/mn Mongolian/mr Marathi/ms Malay/mt Maltese/my Burmese/na Nauru/"
    "nb Norwegian Bokmal/nd North Ndebele/ne Nepali/ng Ndonga/nl Dutch/nn Norwegian Nynorsk/no Norwegian/nr South Ndebele/"
    "nv Navajo/ny Chichewa/oc Occitan/oj Ojibwa/om Oromo/or Odia/os Ossetian/pa Punjabi/pi Pali/pl Polish/ps Pashto/"
    "pt Portuguese/qu Quechua/rm Romansh/rn Rundi/ro Romanian/ru Russian/rw Kinyarwanda/sa Sanskrit/sc Sardinian/sd Sindhi/"
    "se Northern Sami/sg Sango/si Sinhala/sk Slovak/sl Slovenian/sm Samoan/sn Shona/so Somali/sq Albanian/sr Serbian/"
    "ss Swati/st Southern Sotho/su Sundanese/sv Swedish/sw Swahili/ta Tamil/te Telugu/tg Tajik/th Thai/ti Tigrinya/"
    "tk Turkmen/tl Tagalog/tn Tswana/to Tonga/tr Turkish/ts Tsonga/tt Tatar/tw Twi/ty Tahitian/ug Uighur/uk Ukrainian/"
    "ur Urdu/uz Uzbek/ve Venda/vi Vietnamese/vo Volapuk/wa Walloon/wo Wolof/xh Xhosa/yi Yiddish/yo Yoruba/za Zhuang/"
    "zh Chinese/zu Zulu/zh-hans Simplified Chinese/zh-cn Simplified Chinese/zh-hant Traditional Chinese/"
    "zh-tw Traditional Chinese/pt-br Brazilian Portuguese"
)
NAMES: dict[str, str] = dict(one.split(" ", 1) for one in _TABLE.split("/"))
"""English names by code: all of ISO 639-1, and a few regional ones that prompts distinguish."""
LONGEST = 60
"""A longer name is a text that went to the wrong place."""
ALIKE = 0.85
"""A name this like a known one is taken for a slip of the keyboard ("Chinse")."""


def language_name(language: str) -> str:
    """What a prompt calls `language`: the English name for a code or a known name, else the name as it is given.

    Any name will do, made-up ones too, so only what cannot be a name is refused: an unknown code, a near miss of a known
    name, a text without letters or of several lines.

    Raises:
        ConfigError: it is none.
    """
    name = language.strip()
    known = {one.casefold(): one for one in NAMES.values()}
    if name.casefold() in known:
        return known[name.casefold()]
    code = name.lower().replace("_", "-")
    if code in NAMES:
        return NAMES[code]
    if re.fullmatch(r"[a-z]{2,3}(?:-\w+)+", code) and code.split("-")[0] in NAMES:
        return NAMES[code.split("-")[0]]
    if not any(map(str.isalpha, name)) or len(name.splitlines()) != 1 or len(name) > LONGEST:
        raise ConfigError(f'language {language[:LONGEST]!r} is not the name of a language; write one such as "French" or "fr"')
    if re.fullmatch(r"[a-z]{2,3}(?:[-_]\w+)*", name):
        raise ConfigError(f"language {language!r} is not a known language code; write the language's name, such as `French`")
    near = get_close_matches(name.casefold(), known, n=1, cutoff=ALIKE)
    if near:
        raise ConfigError(f"unknown language {language!r}; did you mean `{known[near[0]]}`?")
    return name


def language_code(name: str) -> str | None:
    """The ISO 639-1 code of a language called `name` ("Simplified Chinese" is `zh` too); None for one that is not known."""
    codes = {one.casefold(): code.split("-")[0] for code, one in NAMES.items()}
    words = name.casefold().split()
    return codes.get(name.casefold()) or (codes.get(words[-1]) if words else None)
