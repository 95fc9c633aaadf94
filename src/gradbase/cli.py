"""The command line: ``gradbase shell | sql | demo | models | plot | memory | doctor | fsck``."""

from __future__ import annotations

import importlib.util
import inspect
import json
import logging
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gradbase.errors import BindError, GradbaseError, near

if TYPE_CHECKING:
    from gradbase.memory import Trace
    from gradbase.store.following import Run

app = typer.Typer(
    help="Deep-learning workloads as queries over the data system that holds the data.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

Database = Annotated[
    str,
    typer.Option(
        "--database", "-d", envvar="GRADBASE_DATABASE", help="A DuckDB file, or :memory:."
    ),
]


@app.callback()
def configure(
    log: Annotated[str, typer.Option(help="Level of the log on standard error.")] = "warning",
) -> None:
    """Set the log level before any command."""
    logging.basicConfig(level=log.upper(), format="%(asctime)s %(name)s %(levelname)s %(message)s")


@app.command()
def sql(
    file: Annotated[Path | None, typer.Argument(help="A file of statements; - for stdin.")] = None,
    command: Annotated[str | None, typer.Option("-c", help="Statements to run.")] = None,
    database: Database = ":memory:",
    *,
    python_module: Annotated[
        list[str] | None, typer.Option(help="A module whose functions models may use.")
    ] = None,
    rows: Annotated[int, typer.Option(help="Rows to print of each result, as a table.")] = 40,
    form: Annotated[
        str, typer.Option("--format", "-f", help="table, csv, json, jsonl, markdown or line.")
    ] = "table",
) -> None:
    """Run SQL, from -c or a file, and print each result."""
    if (command is None) == (file is None):
        raise typer.BadParameter("give statements with -c, or a file, not both")
    text = _read(file) if command is None else command
    from gradbase.session import connect
    from gradbase.session.formats import TABLE, check, write

    check(form)
    with connect(database, python_modules=python_module or ()) as session:
        for result in session.script(text):
            if form == TABLE:
                print(result.text(rows))
            else:
                write(result, form, sys.stdout)


def _read(file: Path | None) -> str:
    try:
        return sys.stdin.read() if str(file) == "-" else Path(str(file)).read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise typer.BadParameter(f"cannot read {file}: {error}") from None


@app.command()
def shell(
    database: Annotated[
        str, typer.Argument(envvar="GRADBASE_DATABASE", help="A DuckDB file, or :memory:.")
    ] = ":memory:",
    read_only: Annotated[bool, typer.Option(help="Predict and look, change nothing.")] = False,
    python_module: Annotated[
        list[str] | None, typer.Option(help="A module whose functions models may use.")
    ] = None,
) -> None:
    """SQL by hand: history, completion, pages. Statements piped in are run as `sql` runs them."""
    from gradbase.session import connect
    from gradbase.shell.start import start

    with connect(database, read_only=read_only, python_modules=python_module or ()) as session:
        start(session, "memory" if database == ":memory:" else Path(database).stem)


@app.command()
def demo(
    folder: Annotated[Path, typer.Option(help="Where database and picture go.")] = Path(
        "demo-output"
    ),
) -> None:
    """Train 32 networks on a real data set with one statement and use the best in SQL."""
    from gradbase.session import connect, demo

    folder.mkdir(parents=True, exist_ok=True)
    with connect(str(folder / "demo.duckdb")) as session:
        demo.run(session, folder, print)


@app.command()
def models(database: Database = ":memory:") -> None:
    """List the models of a database."""
    from gradbase.session import connect

    with connect(database, read_only=_exists(database)) as session:
        print(session.sql("SHOW MODELS").text(1000))


@app.command()
def resume(
    model: Annotated[str, typer.Argument(help="The model whose training was interrupted.")],
    database: Database = ":memory:",
    python_module: Annotated[
        list[str] | None, typer.Option(help="Modules whose functions python: models may call.")
    ] = None,
) -> None:
    """Go on with an interrupted search, to the result that it would have had."""
    from gradbase.session import connect

    with connect(database, python_modules=python_module or ()) as session:
        print(session.resume(model))


@app.command()
def replay(
    model: Annotated[str, typer.Argument(help="A model that was trained here.")],
    database: Database = ":memory:",
    trial: Annotated[int | None, typer.Option(help="Its trial; the best if left out.")] = None,
    python_module: Annotated[
        list[str] | None, typer.Option(help="Modules whose functions python: models may call.")
    ] = None,
) -> None:
    """Train a trial again from its journal and compare its weights with those of the store."""
    from gradbase.session import connect

    with connect(database, python_modules=python_module or ()) as session:
        again = session.model(model, trial=trial).replay()
    equal = "the same weights" if again.same else "other weights"
    print(f"trial {again.trial} of {model} after {len(again.epochs)} epochs: {equal}")
    raise typer.Exit(0 if again.same else 1)


@app.command()
def runs(
    path: Annotated[str | None, typer.Argument(help="A DuckDB file; or give --database.")] = None,
    database: Database = ":memory:",
    run: Annotated[str, typer.Option(help="The search: shows its trials.")] = "",
    trial: Annotated[list[int] | None, typer.Option(help="A trial of it.")] = None,
    *,
    do: Annotated[
        str, typer.Option(help="stop, resume, clone or restart --trial; add one; stop them all.")
    ] = "",
    setting: Annotated[
        list[str] | None, typer.Option("--set", help="learn_rate=0.01, of a trial to be added.")
    ] = None,
) -> None:
    """Searches that run, have ended or were interrupted; works while the database is in use."""
    from gradbase.store.following import runs as find

    chosen = [found for found in find(path or database) if run in ("", found.id)]
    if do and not run:
        raise typer.BadParameter("--do needs --run")
    for found in chosen:
        if do:
            _command(found, do, list(trial or ()), dict(map(_setting, setting or ())))
        print(found)
        for row in found.trials if run else ():
            print("  " + ", ".join(f"{name} {_short(value)}" for name, value in row.items()))
    if run and not chosen:
        print(f"there is no run {run}")
        raise typer.Exit(1)


def _command(run: Run, do: str, trials: list[int], changes: dict[str, object]) -> None:
    """Leave a message in the mailbox of a search."""
    match do, trials:
        case "stop", _:
            run.stop(*trials)
        case "resume", [_, *_]:
            run.resume(*trials)
        case "clone" | "restart", [_, *_]:
            for trial in trials:
                run.clone(trial, changes, weights=do == "clone")
        case "add", []:
            run.add(changes)
        case _:
            raise typer.BadParameter(
                f"--do {do} with {len(trials)} trials: stop, resume, clone and restart take "
                "--trial, add takes --set"
            )


def _setting(text: str) -> tuple[str, object]:
    """A name and its value: JSON, or else text."""
    name, equal, value = text.partition("=")
    if not equal:
        raise typer.BadParameter(f"--set {text}: expected name=value")
    try:
        return name, json.loads(value)
    except ValueError:
        return name, value


def _short(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


@app.command()
def plot(
    database: Annotated[Path, typer.Argument(help="A DuckDB file.")],
    model: Annotated[str, typer.Argument(help="A model, such as churn or churn@2.")],
    kind: Annotated[
        str, typer.Option(help="curves, history, parallel, importance, roc, calibration, …")
    ] = "curves",
    data: Annotated[
        str | None, typer.Option(help="A table or query with the label, for roc and the like.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Where to write: .png, .svg or .pdf; MODEL_KIND.png.")
    ] = None,
) -> None:
    """Draw a search or a model."""
    from gradbase.session import connect

    path = out or Path(f"{model.replace('@', '_')}_{kind}.png")
    with connect(str(database), read_only=True) as session:
        session.study(model).plot(kind, data=data, path=path)
    print(path)


@app.command()
def memory(
    source: Annotated[
        str,
        typer.Argument(
            help="A training step, such as train.py:step, or a file id,lower,upper,size."
        ),
    ],
    *,
    out: Annotated[
        Path | None, typer.Option(help="The picture: .png, .svg or .pdf; SOURCE_memory.png.")
    ] = None,
    csv: Annotated[Path | None, typer.Option(help="Write id,lower,upper,size,offset here.")] = None,
    capacity: Annotated[str | None, typer.Option(help="What has to do, such as 500MB.")] = None,
    period: Annotated[int | None, typer.Option(help="Lifetimes of a file repeat with it.")] = None,
    time_limit: Annotated[float, typer.Option(help="Seconds for the plan.")] = 60.0,
) -> None:
    """Plan the memory of a training step and draw it: what is alive when, peak and lower bound."""
    from gradbase.memory import plan, trace

    if source.endswith(".py"):
        raise BindError(f"`{source}` names no function", hint=f"such as {source}:step")
    file, _, name = source.rpartition(":")
    lifetimes: Trace | str = source
    if file.endswith(".py"):
        lifetimes = trace(_function(Path(file), name))
        print(lifetimes)
    placed = plan(lifetimes, capacity, time_limit=time_limit, period=period)
    print(placed)
    if csv is not None:
        placed.to_csv(csv)
    path = out or Path(f"{Path(file or source).stem}_memory.png")
    placed.plot(path)
    print(path)


@app.command()
def doctor(
    recalibrate: Annotated[bool, typer.Option(help="Measure the machine again.")] = False,
) -> None:
    """Versions, cores, memory, engines and the measured speed of this machine."""
    from gradbase.session.doctor import examine

    for name, value in examine(recalibrate=recalibrate):
        print(f"{name:24} {value}")


@app.command()
def fsck(
    database: Database = ":memory:",
    repair: Annotated[bool, typer.Option(help="Remove what is broken or unnamed.")] = False,
) -> None:
    """Verify catalog and blobs; exit 1 where something is wrong."""
    from gradbase.session import connect

    with connect(database, read_only=not repair and _exists(database)) as session:
        report = session.fsck(repair=repair)
        print(report)
    if not report.ok:
        raise typer.Exit(1)


def _function(file: Path, name: str) -> Callable[[], object]:
    """A function of a Python file, run as a module: not as `__main__`."""
    spec = importlib.util.spec_from_file_location(file.stem, file)
    if spec is None or spec.loader is None or not file.exists():
        raise BindError(f"there is no file `{file}`")
    module = importlib.util.module_from_spec(spec)
    sys.path.insert(0, str(file.parent))  # as `python train.py` does
    sys.modules[file.stem] = module
    spec.loader.exec_module(module)
    found = getattr(module, name, None)
    if not callable(found):
        functions = [n for n, value in vars(module).items() if inspect.isfunction(value)]
        raise BindError(f"`{file}` has no function `{name}`", hint=near(name, functions))
    return found


def _exists(database: str) -> bool:
    return database != ":memory:" and Path(database).exists()


def main() -> None:
    """Entry point: errors are printed without a traceback, exit status 1; Ctrl-C gives 130."""
    try:
        app()
    except GradbaseError as error:
        notes = [f"  {note}" for note in getattr(error, "__notes__", ())]
        print(f"{type(error).__name__}: {error}", *notes, sep="\n", file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)
