"""Scripts and languages: clear ones are distinguished, unclear ones are left open."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from buckler.data.language import language, script_distance, scripts

SHARED = Path(__file__).parent.parent.parent / "shared" / "data"
SAMPLES = {
    "en": "The baker boils the barley in a pot and salts it, so that the guests have a soup.",
    "de": "Der Bäcker kocht die Gerste in einem Topf und salzt sie, damit die Gäste eine Suppe haben.",
    "fr": "Le boulanger fait cuire l'orge dans une marmite et la sale pour que les invités aient une soupe.",
    "es": "El panadero hierve la cebada en una olla y la sala para que los invitados tengan una sopa con pan.",
    "it": "Il fornaio fa bollire l'orzo in una pentola e lo sala, perché gli ospiti abbiano una zuppa con il pane.",
    "pt": "O padeiro ferve a cevada em uma panela e põe sal para que os convidados tenham uma sopa com pão.",
    "nl": "De bakker kookt de gerst in een pan en doet er zout bij, zodat de gasten een soep hebben.",
    "sv": "Bagaren kokar kornet i en gryta och saltar det, så att gästerna har en soppa till kvällen som de vill.",
    "pl": "Piekarz gotuje jęczmień w garnku i soli go, żeby goście mieli zupę na obiad, jak to się robi.",
    "tr": "Fırıncı arpayı bir tencerede kaynatır ve konuklar için bir çorba yapar, bu da çok iyi.",
    "id": "Tukang roti merebus jelai di dalam panci dan menambahkan garam untuk sup yang akan dimakan oleh tamu itu.",
    "ru": "Пекарь варит ячмень и солит его, чтобы на столе был суп для гостей и для его семьи.",
    "zh": "面包师用盐煮大麦，让客人喝到热汤。",
    "ja": "パン屋は大麦を塩で煮て、お客にスープを出します。",
}


@pytest.mark.parametrize("code", SAMPLES)
def test_a_sentence_is_of_its_language(code):
    assert language(SAMPLES[code]) == code


@pytest.mark.parametrize(
    "text",
    [
        "",
        "42",
        "Salt.",
        "Paris, Rome, Berlin, Oslo",
        "Pulp Fiction (1994)",
        "print(x)",
        "wamp grib fermole",
        "麦",
        "la la la de de de",
    ],
)
def test_what_is_not_clear_is_left_open(text):
    assert language(text) is None


def test_the_mix_of_scripts():
    assert scripts("42 + 1") == {}
    assert scripts("abаб") == {"LATIN": 0.5, "CYRILLIC": 0.5}
    assert script_distance("abc", "xyz") == 0.0 == script_distance("abc", "42")
    assert script_distance("abc", SAMPLES["ru"]) == 1.0 == script_distance(SAMPLES["zh"], SAMPLES["ru"])
    assert script_distance("ab", "abаб") == 0.5
    assert script_distance(SAMPLES["zh"], SAMPLES["ja"]) == 0.0  # distinguished as languages


@pytest.mark.data
@pytest.mark.skipif(not SHARED.exists(), reason="the shared sample data are not here")
def test_no_english_answer_of_dolly_is_taken_for_another_language():
    lines = (SHARED / "dolly" / "databricks-dolly-15k-subset_200.jsonl").read_text(encoding="utf-8").splitlines()
    found = [language(json.loads(line)["response"]) for line in lines]
    assert set(found) <= {"en", None} and found.count("en") >= 0.95 * len(found)
