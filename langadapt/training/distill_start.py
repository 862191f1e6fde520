"""How distillation starts: the adapter's shape, and the weights of another run."""

from collections.abc import Sequence

import torch
from torch.nn import functional as F

from langadapt.data.parallel import ParallelSentences, distinct
from langadapt.data.tokens import by_length
from langadapt.errors import Progress, RecipeError
from langadapt.files.temporary import join_texts, take_texts
from langadapt.models import Artifact, ResolvedModel, Student, TextModel
from langadapt.models.student import pooling_of
from langadapt.models.towers import state_indices
from langadapt.recipes import LanguageRecipe
from langadapt.training.run import Run

_ALIGNMENT_PAIRS = 300
ALIGNED_PERCENT = 50.0
"""A text model that finds at least so many of the translations is aligned."""


@torch.no_grad()
def alignment(encoder: TextModel, english: Sequence[str], target: Sequence[str]) -> float:
    """R@1 in percent of translations among English sentences, before any training.

    Up to 300 pairs of distinct English sentences are embedded by the mean of their last hidden states, or by
    the first token's where a sentence-transformers repository says so.
    """
    modes, _ = pooling_of(encoder.source) or ([], None)
    first = bool({"cls", "cls_token"} & {*modes})
    rows = distinct(" ".join(text.casefold().split()) for text in english).first
    rows = rows[:: -(-len(rows) // _ALIGNMENT_PAIRS)]
    sides = []
    for texts in (take_texts(english, rows), take_texts(target, rows)):
        tokens = encoder.tokenize(texts)
        means = torch.zeros(len(texts), encoder.state_dim)
        for some in by_length(tokens.lengths, batch_tokens=2048):
            states = encoder.packed_states(tokens, some, "last")[:, 0].float().cpu()
            for row, own in zip(some, torch.split(states, tokens.lengths_of(some).tolist()), strict=True):
                means[row] = own[0] if first else own.mean(dim=0)
        sides.append(F.normalize(means, dim=-1))
    scores = sides[1] @ sides[0].T
    return 100 * float((scores.argmax(dim=1) == torch.arange(len(rows))).float().mean())


def settled_adapter(
    encoder: TextModel,
    recipe: LanguageRecipe,
    pairs: Sequence[ParallelSentences],
    start: Artifact | None,
    run: Run,
) -> LanguageRecipe:
    """Replace `auto` in the adapter's shape: by the start's shape, else by whether the model is aligned.

    A resumed run keeps its first choice. Of several languages the one that the model finds least decides.
    English text alone presupposes an aligned model.
    """
    spec = recipe.adapter
    if start is not None:
        own = start.recipe.adapter.model_dump()
        spec = spec.model_copy(update={key: own[key] for key in own if getattr(spec, key) == "auto"})
    asked = "auto" not in (spec.layers, spec.states)
    aligned, why = True, "as asked" if asked else "no pairs to measure the alignment on"
    if pairs and not asked:
        found = {
            code: _alignment_of(code, encoder, pairs) for code in dict.fromkeys(p.language for p in pairs)
        }
        worst = min(found, key=lambda code: found[code])
        aligned = run.settled("aligned", lambda: found[worst] >= ALIGNED_PERCENT) == "True"
        why = f"the text model finds {found[worst]:.0f} % of the translations"
        why += f" from {worst}, the fewest of {len(found)} languages" if len(found) > 1 else ""
    settled = spec.settled(aligned_states=encoder.state_count if aligned else None)
    shape = f"{settled.layers} layers, width {settled.bottleneck_dim}, states {settled.states}"
    run.report(Progress(stage=f"adapter: {shape}; {why}"))
    return recipe.model_copy(update={"adapter": settled})


def _alignment_of(code: str, encoder: TextModel, pairs: Sequence[ParallelSentences]) -> float:
    own = [corpus for corpus in pairs if corpus.language == code]
    return alignment(encoder, join_texts(p.english for p in own), join_texts(p.target for p in own))


def start_from(start: Artifact, student: Student, recipe: LanguageRecipe, *sources: ResolvedModel) -> None:
    """Load the adapter of another run; refuse one of other models or shapes, or with more than an adapter."""
    own = student.adapter.state_dict()
    weights = {name.removeprefix("adapter."): value for name, value in start.weights.items()}

    def states(of: LanguageRecipe) -> tuple[int, ...]:
        return state_indices(of.adapter.states, student.text_model.state_count)

    wrong = [
        what
        for what, same in (
            ("teacher", start.teacher.revision == sources[0].revision),
            ("text model", start.text_model.revision == sources[1].revision),
            ("prefix", start.recipe.text_model.prefix == recipe.text_model.prefix),
            ("adapter states", states(start.recipe) == states(recipe)),
            (
                "adapter shape",
                own.keys() <= weights.keys()
                and all(weights[name].shape == value.shape for name, value in own.items()),
            ),
            ("part that trains: only the adapter may", weights.keys() <= own.keys()),
        )
        if not same
    ]
    if wrong:
        raise RecipeError(f"distill.start {recipe.distill.start}: it has another {wrong[0]}")
    student.adapter.load_state_dict(weights)
