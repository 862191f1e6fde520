"""All commands under one name."""

from typing import Annotated

import typer

from langadapt import __version__
from langadapt.cli import (
    classify,
    data,
    distill,
    doctor,
    domain,
    encode,
    evaluate,
    export,
    languages,
    publish,
    quickstart,
    search,
    translate,
    tune,
)

app = typer.Typer(
    name="langadapt",
    help="Teach CLIP a new language through a small adapter on frozen models.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(__version__)
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    pass


app.command("quickstart", help=quickstart.HELP)(quickstart.quickstart)
app.command("doctor", help=doctor.HELP)(doctor.doctor_command)
app.command("distill", help=distill.HELP)(distill.distill_command)
app.command("tune", help=tune.TUNE_HELP)(tune.tune_command)
app.command("domain", help=domain.HELP)(domain.domain_command)
app.command("align", help=tune.ALIGN_HELP)(tune.align_command)
app.command("eval", help=evaluate.HELP)(evaluate.eval_command)
app.command("index", help=search.INDEX_HELP)(search.index_command)
app.command("demo", help=search.DEMO_HELP)(search.demo_command)
app.command("prompts", help=classify.PROMPTS_HELP)(classify.prompts_command)
app.command("classify", help=classify.CLASSIFY_HELP)(classify.classify_command)
app.command("search", help=search.SEARCH_HELP)(search.search_command)
app.command("serve", help=search.SERVE_HELP)(search.serve_command)
app.command("encode", help=encode.HELP)(encode.encode_command)
app.command("publish", help=publish.HELP)(publish.publish_command)
app.command("export", help=export.HELP)(export.export_command)
app.add_typer(languages.app, name="languages", help="The languages: list, show, start another, check.")

data_app = typer.Typer(no_args_is_help=True, pretty_exceptions_enable=False)
data_app.callback()(lambda: None)
data_app.command("build", help=data.BUILD_HELP)(data.build_command)
data_app.command("check", help=data.CHECK_HELP)(data.check_command)
data_app.command("translate", help=translate.HELP)(translate.translate_command)
app.add_typer(data_app, name="data", help="Training data: clean parallel sentences, check pairs, translate.")
