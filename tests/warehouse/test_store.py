"""The Parquet store: whole files or none, schemas enforced, fingerprints kept."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from warehouse.schema import BY_NAME, TABLES
from warehouse.store import Store, fingerprint

LABEL = {"clip_id": "c", "taxonomy": "t", "class_id": 0, "class_name": "n", "source": "s"}


def test_rows_come_back_as_written_and_carry_their_fingerprint(tmp_path: Path) -> None:
    store = Store(tmp_path)
    assert store.rows("labels") == [] and not store.is_current("labels", None, "f")
    store.write("labels", [LABEL], fingerprint="f")
    assert store.rows("labels") == [LABEL]
    assert store.is_current("labels", None, "f") and not store.is_current("labels", None, "g")
    assert store.read("labels").schema == BY_NAME["labels"].schema


def test_a_file_with_the_columns_of_an_older_version_is_not_current(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.write("labels", [LABEL], fingerprint="f")
    file = pq.read_table(store.path("labels"))
    pq.write_table(file.drop_columns(["source"]), store.path("labels"))
    assert not store.is_current("labels", None, "f")


def test_parts_are_read_together_and_a_folder_named_like_a_partition_adds_no_column(tmp_path: Path) -> None:
    store = Store(tmp_path / "source=x")
    reject = {"source": "b", "file": "f", "row": 1, "split": None, "error_class": "bad_path", "detail": "d"}
    store.write("rejects", [reject], "b")
    store.write("rejects", [reject | {"source": "a"}], "a")
    assert [row["source"] for row in store.rows("rejects")] == ["a", "b"]
    assert store.rows("rejects", "b") == [reject]


@pytest.mark.parametrize("wrong", [{"class_id": "many"}, {"class_name": None}])
def test_a_value_that_does_not_fit_leaves_the_file_as_it_was(tmp_path: Path, wrong: dict[str, object]) -> None:
    store = Store(tmp_path)
    store.write("labels", [LABEL])
    with pytest.raises((pa.ArrowInvalid, pa.ArrowTypeError, ValueError)):
        store.write("labels", [LABEL | wrong])
    assert store.rows("labels") == [LABEL]
    assert [path.name for path in store.tables.iterdir()] == ["labels.parquet"]


def test_a_part_is_asked_for_exactly_where_a_table_has_parts(tmp_path: Path) -> None:
    store = Store(tmp_path)
    with pytest.raises(ValueError, match="clips"):
        store.path("clips")
    with pytest.raises(ValueError, match="labels"):
        store.path("labels", "a")


def test_fingerprints_tell_inputs_apart() -> None:
    assert fingerprint(1, "a") == fingerprint(1, "a")
    assert len({fingerprint(x) for x in ([1, 2], [2, 1], "12", {"a": 1}, {"a": 2}, None)}) == 6


def test_keys_and_parts_of_every_table_are_columns() -> None:
    for table in TABLES:
        assert set(table.key) <= set(table.schema.names), table.name
        if table.part == "source":
            assert table.name == "clips" or "source" in table.schema.names
