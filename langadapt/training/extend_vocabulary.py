"""Before distilling: new pieces for the text model's tokenizer, learnt once for a run."""

from collections.abc import Sequence

from accelerate import Accelerator

from langadapt.data.parallel import ParallelSentences
from langadapt.data.write_text import write_text
from langadapt.models import TextModel
from langadapt.models.new_pieces import learn_vocabulary
from langadapt.models.pieces import Vocabulary
from langadapt.models.vocabulary import extend_text_model
from langadapt.progress import Progress, Report
from langadapt.recipes import LanguageRecipe
from langadapt.training.run_folder import RunFolder


def extend_vocabulary(
    text_model: TextModel,
    recipe: LanguageRecipe,
    corpora: Sequence[ParallelSentences],
    run: RunFolder,
    *,
    accelerator: Accelerator,
    report: Report,
) -> Vocabulary | None:
    """Learns the recipe's new pieces, or reads those that the run began with, and extends the text model.

    Args:
        text_model: extended in place.
        recipe: says whether, and how many.
        corpora: the pieces are learnt on their target sides.
        run: keeps the pieces for when it is resumed.
        accelerator: its main process learns, the others read.
        report: told what was learnt.

    Returns:
        The pieces, or None where the recipe asks for none.
    """
    extension = recipe.text_model.extend_vocabulary
    if extension is None:
        return None
    if accelerator.is_main_process and not run.vocabulary.is_file():
        learnt = learn_vocabulary(
            text_model,
            (text for corpus in corpora for text in corpus.target),
            (text for corpus in corpora for text in corpus.english),
            pieces=extension.pieces,
        )
        write_text(run.vocabulary, learnt.to_json())
    accelerator.wait_for_everyone()
    vocabulary = Vocabulary.from_json(run.vocabulary.read_text(encoding="utf-8"))
    extend_text_model(text_model, vocabulary, seed=recipe.distill.seed)
    letters = sum(piece.merge is None for piece in vocabulary.pieces)
    report(Progress(stage=f"tokenizer: {len(vocabulary.pieces)} new pieces, {letters} of them new letters"))
    return vocabulary
