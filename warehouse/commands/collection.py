"""``reelhouse collection``: make collections by a query, look at them, compare them and hand them on."""

import argparse
from pathlib import Path

from warehouse.catalog.build import connect
from warehouse.catalog.collections import create
from warehouse.catalog.differences import diff, snapshot_of
from warehouse.catalog.exporting import ExportError, export_index, export_tars
from warehouse.commands.numbers import at_least_one
from warehouse.commands.printing import counted, print_table
from warehouse.config import Config
from warehouse.store import Store


def add(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command, with its own commands, to the parser."""
    parser = commands.add_parser("collection", help="collections as SQL: create, show, diff, export, sample")
    parts = parser.add_subparsers(dest="part", required=True)
    made = parts.add_parser(
        "create",
        help="a collection of what a query selects",
        description="Run a query on the catalog and take what it selects as an immutable snapshot, named by content. "
        "Clips without a split are training clips, and none of these may repeat a validation or test clip. "
        "The same name again: a newer snapshot of the collection.",
    )
    made.add_argument("name", metavar="NAME")
    made.add_argument(
        "--sql", required=True, metavar="QUERY", help='"SELECT clip_id [, split] [, class_name] [, weight] FROM …"'
    )
    made.set_defaults(run=_create)
    shown = parts.add_parser("show", help="all collections; or of one what it is made of, its query, its snapshots")
    shown.add_argument("name", nargs="?", metavar="NAME", help="collection or snapshot id (default: list all)")
    shown.set_defaults(run=_show)
    compared = parts.add_parser("diff", help="what came, went and changed from one collection or snapshot to another")
    compared.add_argument("before", metavar="A", help="collection (its present snapshot) or snapshot id")
    compared.add_argument("after", metavar="B")
    compared.set_defaults(run=_diff)
    exported = parts.add_parser("export", help="as WebDataset tars of its own, or as index files for DALI's reader")
    exported.add_argument("name", metavar="NAME", help="collection or snapshot id")
    exported.add_argument("--to", type=Path, required=True, metavar="DIR", help="folder to make")
    exported.add_argument("--index", action="store_true", help="index files over the shards that there are; no copy")
    exported.set_defaults(run=_export)
    sampled = parts.add_parser("sample", help="a contact sheet: frames of clips drawn at random")
    sampled.add_argument("name", metavar="NAME", help="collection or snapshot id")
    sampled.add_argument("--n", type=at_least_one, default=20, metavar="N", help="clips (default: %(default)s)")
    sampled.add_argument("--seed", type=int, default=0, metavar="N", help="another draws others (default: %(default)s)")
    sampled.add_argument("--out", type=Path, required=True, metavar="FILE", help="PNG to write, which is not there yet")
    sampled.set_defaults(run=_sample)


def _create(store: Store, config: Config, options: argparse.Namespace) -> None:
    taken = create(store, config, options.name, options.sql)
    print("0 training clips repeat a validation or test clip.")
    _print_snapshot(store, taken["snapshot_id"])


def _show(store: Store, config: Config, options: argparse.Namespace) -> None:
    if options.name is not None:
        snapshot = snapshot_of(store, options.name)
        _print_snapshot(store, snapshot)
        with connect(store) as connection:
            history = connection.execute(
                "SELECT strftime(taken, '%Y-%m-%d %H:%M:%S'), snapshot_id, clips, "
                "collection_snapshots.collection, sql FROM collection_snapshots "
                "JOIN snapshots USING (snapshot_id) WHERE collection_snapshots.collection = $name "
                "OR snapshot_id = $name ORDER BY taken", {"name": options.name},
            ).fetchall()  # fmt: skip
        print("\nSnapshots over time (UTC)\n")
        print_table(("taken", "snapshot", "clips", "of"), [row[:4] for row in history])
        if history and history[-1][4] is not None:
            print(f"\nThe query of the last\n\n{history[-1][4]}")
        return
    with connect(store) as connection:
        rows = connection.execute(
            """
            SELECT p.collection, CASE WHEN p.sql IS NULL THEN 'rules' ELSE 'query' END, p.snapshot_id, s.clips,
                   (SELECT sum(taken_down)::INTEGER FROM snapshot_composition c WHERE c.snapshot_id = p.snapshot_id),
                   len(s.classes), strftime(p.taken, '%Y-%m-%d %H:%M:%S'),
                   (SELECT count(*) FROM collection_snapshots c WHERE c.collection = p.collection)
            FROM present_snapshots p JOIN snapshots s USING (snapshot_id) ORDER BY p.collection
            """
        ).fetchall()
    names = ("collection", "made by", "snapshot", "clips", "taken down", "classes", "taken (UTC)", "times taken")
    print_table(names, rows)


def _diff(store: Store, config: Config, options: argparse.Namespace) -> None:
    before, after = (snapshot_of(store, name) for name in (options.before, options.after))
    rows = diff(store, before, after)
    if not rows:
        print(f"{before} and {after} hold the same clips alike.")
        return
    shown = [(*row[:4], ", ".join(row[4])) for row in rows]
    print_table(("change", "source", "split", "clips", "for example"), shown)


def _export(store: Store, config: Config, options: argparse.Namespace) -> None:
    snapshot = snapshot_of(store, options.name)
    described = (export_index if options.index else export_tars)(store, snapshot, options.to)
    what = "index file" if options.index else "tar"
    counts = [f"{split}: {counted(len(files['paths']), what)}" for split, files in described["splits"].items()]
    print(f"{options.to}: snapshot {snapshot}; {', '.join(counts)}; clips.csv, collection.json")


def _sample(store: Store, config: Config, options: argparse.Namespace) -> None:
    # Imported here: it loads the decoders, which the other commands do without.
    from warehouse.catalog.contact_sheet import draw_sheet

    if options.out.exists():
        raise ExportError(f"{options.out} is there already. Name another file, or remove it")
    shown = draw_sheet(store, snapshot_of(store, options.name), options.n, options.seed, options.out)
    print(f"{options.out}: {counted(len(shown), 'clip')}, drawn by seed {options.seed}")


def _print_snapshot(store: Store, snapshot_id: str) -> None:
    with connect(store) as connection:
        rows = connection.execute(
            "SELECT source, split, clips, taken_down, hours, round(bytes / 1e6, 2) FROM snapshot_composition "
            "WHERE snapshot_id = ?", [snapshot_id],
        ).fetchall()  # fmt: skip
    print(f"Snapshot {snapshot_id}\n")
    print_table(("source", "split", "clips", "of them taken down", "hours", "MB in shards"), rows)
