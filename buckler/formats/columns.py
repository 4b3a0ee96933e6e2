"""Columns that say what a row is, under all their published names, as meta."""

from __future__ import annotations

from collections.abc import Mapping

from buckler.data import LOSS_WEIGHT, Json
from buckler.errors import DataError
from buckler.formats.marks import weight_of
from buckler.formats.rows import Fields, shorten

META_COLUMNS = frozenset(
    (
        "category label harmful id id_v1 id_v2 index question_id behaviorid functionalcategory type focus note pair task "
        "subject split risk_area types_of_harm set prompt_style specific_harms harm_area confidence title url lang language "
        "topic_prompt tags loss_weight"
    ).split()
)
"""Columns that are kept in a row's meta under their own name."""

CATEGORY_COLUMNS = (
    "l2-name 1-category harm_category semanticcategory semantic_category category_text categories violated_categories harm_type "
    "harm_area risk_area risk_category hazard_category hazard policy policy_name safety_category prompt_category attack_type "
    "l3-name 2-category 3-category subcategory data_type"
).split()
"""What published sets call the category of a row, the broader first; it becomes `category` where the row has none."""
LABEL_COLUMNS = (
    "prompt_label prompt_harm_label prompt_safety_label safety_label harm_label is_harmful is_unsafe is_jailbreak jailbreak "
    "is_attack prompt_type"
).split()
"""Columns of red-team sets that say whether a prompt is harmful; kept in meta. Labels of answers (`is_safe`) are not."""


def meta_of(row: Fields, where: str, own_id: str) -> dict[str, Json]:
    """The columns that say what a row is, and its own `meta` over them; an id that is the content's own is left out."""
    kept = META_COLUMNS.union(LABEL_COLUMNS)
    meta: dict[str, Json] = {name: row[name] for name in row if name in kept and row[name] not in (None, "")}
    if "category" not in meta and (named := next((row[one] for one in CATEGORY_COLUMNS if row.get(one)), None)):
        meta["category"] = ", ".join(map(str, named)) if isinstance(named, list) else named
    if meta.get("id") == own_id:
        del meta["id"]
    if (own := row.get("meta")) is not None:
        if not isinstance(own, Mapping):
            raise DataError(f"{where}: 'meta' must be an object, got {shorten(own)}")
        meta |= own
    if isinstance(flags := meta.get("category"), Mapping):
        meta["category"] = ", ".join(name for name, on in flags.items() if on is True)  # BeaverTails: true or false by category
    if LOSS_WEIGHT in meta:
        meta[LOSS_WEIGHT] = weight_of(LOSS_WEIGHT, meta[LOSS_WEIGHT], where)
    return meta
