"""Licences of data and base models, combined into terms for the weights that were trained on them.

The table states what a licence's text says about sharing and derived works. Whether weights are a derived
work of their training data is not settled law, so the stricter reading is taken. This is no legal advice.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from langadapt.models.artifact import Artifact, BaseModel, DataSource
from langadapt.models.tuning import changes_text_model, has_tuned_images


@dataclass(frozen=True, kw_only=True)
class Terms:
    """What a licence asks of those who share what was made with it."""

    share_alike: bool = False
    commercial: bool = True
    derived: bool = True
    """Whether derived works may be shared at all."""


@dataclass(frozen=True, kw_only=True)
class LicenceSum:
    """The strictest terms of all licences."""

    licence: str
    """The Hub's identifier of the strictest terms: goes into the card's `license`."""
    name: str | None
    """With `other`: what to call it."""
    commercial: bool
    share_alike: bool
    unknown: tuple[str, ...]
    """Whose terms nobody stated, or are not in the table."""
    noncommercial: tuple[str, ...]


# Licences that are not of the family CC-BY-..., by their SPDX id or the name that a recipe uses, lower case.
# The terms of Flickr30k, non-commercial research and education: hockenmaier.cs.illinois.edu/DenotationGraph
_TABLE = {
    name: terms
    for terms, names in (
        (Terms(), "cc0-1.0, pddl-1.0, unlicense, 0bsd, public domain, mit, apache-2.0, isc, bsd-2-clause"),
        (Terms(), "bsd-3-clause, odc-by-1.0, ms-pl, zlib, cdla-permissive-1.0, cdla-permissive-2.0"),
        (Terms(share_alike=True), "odbl-1.0, cdla-sharing-1.0, gfdl-1.3"),
        (Terms(share_alike=True), "gpl-2.0, gpl-3.0, lgpl-3.0, agpl-3.0"),
        (Terms(commercial=False), "flickr30k terms, adobe research license"),
        (Terms(commercial=False, derived=False), "proprietary, all rights reserved"),
    )
    for name in names.split(", ")
}
_CREATIVE_COMMONS = re.compile(r"cc-by(?P<nc>-nc)?(?P<more>-sa|-nd)?-\d\.\d(-[a-z]{2})?")


def terms_of(licence: str) -> Terms | None:
    """Look up the terms of a licence by its SPDX id or name; None where they are not known."""
    name = licence.strip().casefold()
    found = _CREATIVE_COMMONS.fullmatch(name)
    if found:
        more = found["more"]
        return Terms(commercial=not found["nc"], share_alike=more == "-sa", derived=more != "-nd")
    # GPL-3.0-only and GPL-3.0-or-later differ from GPL-3.0 in nothing that matters here.
    return _TABLE.get(re.sub(r"-(only|or-later)$", "", name))


def changed_models(artifact: Artifact) -> tuple[BaseModel, ...]:
    """List the base models of which an artifact stores changed weights."""
    names = artifact.weights
    changed = (
        (artifact.teacher, has_tuned_images(names)),
        (artifact.text_model, changes_text_model(names, artifact.recipe.text_model.trains)),
    )
    return tuple(model for model, has_changed in changed if has_changed)


def objections(data: Sequence[DataSource], stored: Sequence[BaseModel]) -> list[str]:
    """List the reasons why weights may not be published; an empty list means they may.

    Terms that forbid sharing derived works rule out a corpus, and a base model whose trained weights are
    stored. A corpus that must be requested comes with terms that only its recipient has read, so unless its
    licence is known it is ruled out too. A licence that nobody stated rules out nothing: the card says that
    it is unknown. `stored` are the models of which the artifact stores changed weights.
    """
    lines = []
    for source in data:
        terms = terms_of(source.licence)
        if terms is None and source.access == "request":
            lines.append(
                f"{source.name} was given on request ({source.homepage}), and the terms of its licence "
                f"'{source.licence}' are not known"
            )
        elif terms is not None and not terms.derived:
            lines.append(f"the licence of {source.name}, {source.licence}, forbids to share derived works")
    for model in stored:
        terms = terms_of(model.licence)
        if terms is not None and not terms.derived:
            lines.append(f"the licence of {model.repo}, {model.licence}, forbids to share changed weights")
    return lines


def licence_sum(data: Sequence[DataSource], models: Sequence[BaseModel]) -> LicenceSum:
    """Combine the strictest of all terms into one licence."""
    stated = [*((source.name, source.licence) for source in data), *((m.repo, m.licence) for m in models)]
    known = [(name, terms) for name, licence in stated if (terms := terms_of(licence)) is not None]
    unknown = tuple(name for name, licence in stated if terms_of(licence) is None)
    noncommercial = tuple(name for name, terms in known if not terms.commercial)
    share_alike = any(terms.share_alike for _, terms in known)
    name = "non-commercial-and-unknown-terms" if unknown and noncommercial else None
    if unknown:
        licence = "other" if noncommercial else "unknown"
    elif noncommercial or share_alike:
        licence = f"cc-by{'-nc' if noncommercial else ''}{'-sa' if share_alike else ''}-4.0"
    else:
        creative = any(_CREATIVE_COMMONS.fullmatch(licence.strip().casefold()) for _, licence in stated)
        licence = "cc-by-4.0" if creative else "apache-2.0"
    return LicenceSum(
        licence=licence,
        name=name,
        commercial=not noncommercial,
        share_alike=share_alike,
        unknown=unknown,
        noncommercial=noncommercial,
    )
