"""``reelhouse retry``: probe the files of one error class again."""

import argparse

from warehouse.config import Config, ConfigError
from warehouse.error_classes import MISSING, QUARANTINED
from warehouse.store import Store
from warehouse.toml_text import suggest


def add(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command to the parser."""
    parser = commands.add_parser(
        "retry",
        help="probe the files of one error class again",
        description="Forget what was found in the media files of one error class, so that the next run probes them "
        "again: after a fix that does not change the files (a newer decoder, a limit raised, a disk mounted again). "
        "Prints how many files there are by source. Then materialise `media`, or run the job `full_run`.",
        epilog=f"Error classes (docs/error_classes.md): {', '.join((MISSING, *QUARANTINED))}.",
    )
    parser.add_argument("--error-class", required=True, choices=(MISSING, *QUARANTINED), metavar="CLASS")
    parser.add_argument("--source", metavar="NAME", help="files of this source alone (default: of all)")
    parser.set_defaults(run=run)


def run(store: Store, config: Config, options: argparse.Namespace) -> None:
    """Forget what was found, and say of how many files."""
    # Imported here: it loads the decoders, which no other command needs.
    from warehouse.probing import forget

    names, source = [each.name for each in config.sources], options.source
    if source is not None and source not in names:
        raise ConfigError(config.path, [f"there is no [sources.{source}]. {suggest(source, names)}"])
    counts = forget(store, names if source is None else [source], options.error_class)
    for name, count in counts.items():
        print(f"{name}: {count}")
    print(f"{sum(counts.values())} files of class {options.error_class} will be probed again by the next run.")
