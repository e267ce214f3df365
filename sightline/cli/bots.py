"""``sightline bots``: task bots from a schema, talked to and taught in the terminal."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import orjson
import typer

from sightline.cli.job_views import watch_to_end
from sightline.cli.options import KeyOption, UrlOption, connect
from sightline.cli.output import JsonOption, console, print_json, table

if TYPE_CHECKING:
    from sightline.client.bots import BotTurn

app = typer.Typer(help="Make task bots from a schema and a database, talk to them, teach them.", no_args_is_help=True)

NameArgument = Annotated[str, typer.Argument(metavar="BOT", help="Its name or id.")]
_WAYS_OUT = ("/quit", "/exit")


@app.command()
def schema() -> None:
    """The form of a schema, as JSON Schema."""
    from services.dialog.schema import Schema

    print_json(Schema.model_json_schema())


@app.command()
def ready(
    name: Annotated[str | None, typer.Argument(metavar="NAME", help="One of them; all are listed when absent.")] = None,
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for NAME.json and NAME.csv.")] = Path(),
) -> None:
    """Write a ready schema with its rows, to begin from."""
    from services.dialog.ready import READY, ready_document

    if name is None:
        for one in READY:
            console().print(one)
        return
    if name not in READY:
        raise typer.BadParameter(f"{name!r} is none of {', '.join(READY)}")
    document, rows = ready_document(name)
    out.mkdir(parents=True, exist_ok=True)
    (out / f"{name}.json").write_bytes(orjson.dumps(document, option=orjson.OPT_INDENT_2))
    (out / f"{name}.csv").write_bytes(rows)
    console().print(f"{out / name}.json, {out / name}.csv")


@app.command()
def validate(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A schema as JSON or YAML.")],
    rows: Annotated[Path | None, typer.Option(help="Rows as CSV, JSON or SQLite, checked too.")] = None,
    json: JsonOption = False,
) -> None:
    """Check a schema here, without a server; exit code 1 where it has errors."""
    from services.dialog.checks import check_schema, read_schema
    from services.dialog.database import Table, read_rows

    parsed, findings = read_schema(_document(file))
    if parsed is not None:
        opened = None
        if rows is not None and parsed.database is not None:
            opened = Table(parsed.database, read_rows(rows.read_bytes(), parsed.database.table)[1])
        findings += check_schema(parsed, opened)
    if json:
        print_json([asdict(one) for one in findings])
    else:
        _print_findings(findings)
        if not findings:
            console().print("The schema is sound.")
    if any(one.level == "error" for one in findings):
        raise typer.Exit(1)


@app.command()
def create(
    name: Annotated[str, typer.Argument(metavar="NAME", help="What to call it.")],
    file: Annotated[
        Path, typer.Argument(metavar="SCHEMA", help="A schema as JSON or YAML, or the name of a ready one.")
    ],
    rows: Annotated[Path | None, typer.Option(help="Rows as CSV, JSON or SQLite.")] = None,
    url: UrlOption = None,
    key: KeyOption = None,
    json: JsonOption = False,
) -> None:
    """Make a bot from a schema and rows; `sightline bots train NAME` makes its first version."""
    document, data = _named(file)
    if rows is not None:
        data = rows.read_bytes()
    with connect(url, key) as client:
        made = client.bots.create(name, document)
        if data is not None:
            made = client.bots.replace_rows(made.id, data)
    if json:
        print_json(asdict(made))
        return
    _print_findings(made.findings)
    console().print(f"{made.name} {made.id}: train it with `sightline bots train {made.name}`")


@app.command("list")
def list_bots(url: UrlOption = None, key: KeyOption = None, json: JsonOption = False) -> None:
    """Your bots, newest first."""
    with connect(url, key) as client:
        found = list(client.bots.list())
    if json:
        print_json([asdict(one) for one in found])
    elif found:
        rows = [(one.name, one.id, str(one.serving or "-"), "yes" if one.has_rows else "no") for one in found]
        table(("name", "id", "serving", "rows"), rows, right=("serving",))
    else:
        console().print("You have no bots; `sightline bots create NAME restaurant` makes one from a ready schema.")


@app.command()
def simulate(
    bot: NameArgument,
    dialogs: Annotated[int, typer.Option("-n", "--dialogs", help="How many.", min=1)] = 1_000,
    seed: Annotated[int, typer.Option(help="The same seed gives the same dialogs.", min=0)] = 0,
    url: UrlOption = None,
    key: KeyOption = None,
    json: JsonOption = False,
) -> None:
    """Simulate dialogs from a bot's schema; the job's artifacts hold them, and what they cover."""
    _run(bot, "simulate", {"dialogs": dialogs, "seed": seed}, url, key, json)


@app.command()
def train(
    bot: NameArgument,
    dialogs: Annotated[int, typer.Option("-n", "--dialogs", help="Simulated dialogs to learn from.", min=0)] = 1_000,
    turns: Annotated[int, typer.Option(help="Of their turns, at most so many that differ.", min=100)] = 4_000,
    seed: Annotated[int, typer.Option(help="Of simulation and training.", min=0)] = 0,
    url: UrlOption = None,
    key: KeyOption = None,
    json: JsonOption = False,
) -> None:
    """Make a version from simulated dialogs and everything that was taught; the first one is served at once."""
    _run(bot, "train-bot", {"dialogs": dialogs, "turns": turns, "seed": seed}, url, key, json)


def _run(bot: str, kind: str, parameters: dict[str, Any], url: str | None, key: str | None, json: bool) -> None:
    with connect(url, key) as client:
        job = client.jobs.submit(kind, {"bot": bot, **parameters})
        done = watch_to_end(client, job.id, json)
    if json or done.result is None:
        return
    result = done.result
    if kind == "simulate":
        covered = result["coverage"]
        console().print(
            f"{covered['dialogs']:,} dialogs, {covered['turns']:,} turns; {covered['nodes']:.0%} of the nodes and "
            f"{covered['edges']:.0%} of the edges of the flow; {covered['act_sequences']:,} different courses"
        )
        console().print(f"Fetch them: sightline jobs artifacts {done.id}")
        return
    measured = result["measured"]
    right, success = measured["simulated"]["joint_goal"], measured["success"]["success"]
    console().print(
        f"version {result['version']}: beliefs right in {right:.1%} of held-out simulated turns, "
        f"{success:.0%} of simulated users got what they wanted"
    )


@app.command()
def versions(bot: NameArgument, url: UrlOption = None, key: KeyOption = None, json: JsonOption = False) -> None:
    """Versions of a bot, the newest first."""
    with connect(url, key) as client:
        found = client.bots.versions(bot)
    if json:
        print_json([asdict(one) for one in found])
        return
    rows = []
    for one in found:
        simulated, success = one.measured["simulated"]["joint_goal"], one.measured["success"]["success"]
        rows.append((str(one.number), "yes" if one.serving else "", f"{simulated:.1%}", f"{success:.0%}", one.job))
    table(
        ("version", "serving", "beliefs right", "success", "job"), rows, right=("version", "beliefs right", "success")
    )


@app.command()
def promote(
    bot: NameArgument,
    version: Annotated[int, typer.Argument(metavar="VERSION", help="Its number; an older one is a rollback.", min=1)],
    canary: Annotated[float | None, typer.Option(help="Only for this share of new sessions.", min=0, max=1)] = None,
    force: Annotated[bool, typer.Option("--force", help="Though it does worse.")] = False,
    url: UrlOption = None,
    key: KeyOption = None,
) -> None:
    """Serve a version to new sessions, or to a share of them."""
    with connect(url, key) as client:
        made = client.bots.promote(bot, version, canary=canary, force=force)
    shared = f", version {made.canary} to {made.canary_share:.0%} of sessions" if made.canary else ""
    console().print(f"{made.name} serves version {made.serving}{shared}")


@app.command()
def chat(
    bot: NameArgument,
    say: Annotated[list[str] | None, typer.Option("--say", help="Say this instead of asking; repeat for more.")] = None,
    version: Annotated[int | None, typer.Option(help="The one that is served when absent.", min=1)] = None,
    url: UrlOption = None,
    key: KeyOption = None,
    json: JsonOption = False,
) -> None:
    """Talk to a bot; what it believes and found stands beside. `/undo` takes a turn back, `/quit` ends."""
    with connect(url, key) as client:
        session = client.bots.open(bot, version)
        said = iter(say) if say else _asked()
        for text in said:
            if text.strip() == "/undo":
                session = client.bots.undo(session.id, bot)
                _aside(f"back to turn {session.turn}")
                continue
            turn = client.bots.say(session, bot, text)
            if json:
                print_json(asdict(turn))
            else:
                _print_turn(turn, echo=bool(say))
            if turn.done:
                break
    if not json:
        _aside(f"session {session.id}: correct a turn with `sightline bots teach {bot} {session.id} TURN`")


@app.command()
def teach(
    bot: NameArgument,
    session: Annotated[str, typer.Argument(metavar="SESSION", help="The dialog, as `chat` shows it.")],
    turn: Annotated[int, typer.Argument(metavar="TURN", help="Its number, from 0.", min=0)],
    act: Annotated[
        list[str],
        typer.Option(
            "--act", "-a", metavar="ACT", help="What the turn means: inform(area=north), request(phone), bye."
        ),
    ],
    preview: Annotated[
        bool, typer.Option("--preview", help="Keep nothing; show what would be read otherwise.")
    ] = False,
    url: UrlOption = None,
    key: KeyOption = None,
    json: JsonOption = False,
) -> None:
    """Correct what a turn means. It acts at once for the same and nearly the same text; the next training learns it."""
    with connect(url, key) as client:
        kept = client.bots.correct(session, bot, turn, [_act(one) for one in act], preview=preview)
    if json:
        print_json(asdict(kept))
    elif preview:
        console().print(f"{len(kept.would_change)} logged turns would be read otherwise")
        for one in kept.would_change[:20]:
            console().print(f"  {one['text']}")
    else:
        console().print(f"{kept.id}: kept; it acts at once, and the next `sightline bots train {bot}` learns it")


@app.command()
def remove(bot: NameArgument, url: UrlOption = None, key: KeyOption = None) -> None:
    """Remove a bot with its versions, dialogs and corrections."""
    with connect(url, key) as client:
        client.bots.delete(bot)


def _asked() -> Any:
    while True:
        try:
            text = input("you  ")
        except EOFError:
            return
        if text.strip() in _WAYS_OUT:
            return
        if text.strip():
            yield text


def _print_turn(turn: BotTurn, *, echo: bool) -> None:
    from rich.text import Text

    screen = console()
    if echo:
        screen.print(Text.assemble(("you  ", "bold"), turn.text))
    screen.print(Text.assemble(("bot  ", "green"), turn.response))
    belief = " ; ".join(f"{slot} = {value}" for slot, value in turn.belief.items()) or "nothing yet"
    sure = f"{turn.confidence:.0%} sure" + (", asked again" if turn.fallback else "")
    _aside(f"     {belief} | {turn.count} rows fit | {sure}")


def _aside(text: str) -> None:
    from rich.text import Text

    console().print(Text(text, "dim"))


def _print_findings(findings: Any) -> None:
    from rich.text import Text

    for one in findings:
        level = (one.level, "red" if one.level == "error" else "yellow")
        console(errors=True).print(Text.assemble(level, f" {one.path}: {one.message}. {one.remedy}"))


def _act(text: str) -> dict[str, str]:
    """``inform(area=north)`` as the platform takes it."""
    name, opened, inside = text.strip().partition("(")
    if opened and not inside.endswith(")"):
        raise typer.BadParameter(f"{text!r} is no act; write inform(area=north), request(phone) or bye")
    slot, _, value = inside.removesuffix(")").partition("=")
    return {"name": name, "slot": slot.strip(), "value": value.strip()}


def _named(file: Path) -> tuple[dict[str, Any], bytes | None]:
    """A schema of a file, or a ready one with its rows by its bare name."""
    from services.dialog.ready import READY, ready_document

    if not file.exists() and str(file) in READY:
        document, rows = ready_document(str(file))
        return document, rows
    return _document(file), None


def _document(file: Path) -> dict[str, Any]:
    import yaml

    try:
        document = yaml.safe_load(file.read_bytes())
    except (OSError, yaml.YAMLError) as error:
        raise typer.BadParameter(f"{file} cannot be read: {error}") from error
    if not isinstance(document, dict):
        raise typer.BadParameter(f"{file} holds no schema: it is no object")
    return document
