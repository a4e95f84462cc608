"""The recorded study described in Croissant, JSON-LD for catalogues of data sets: its files, their checksums and columns."""

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow.parquet as pq

from mpox._core import atomic_write
from mpox.data.fetch import sha256

#: The file in the record's folder.
NAME = "croissant.json"
#: Terms of the format, as version 1.0 of the specification prints them.
CONTEXT: dict[str, Any] = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    **{term: f"cr:{term}" for term in (
        "column", "equivalentProperty", "extract", "field", "fileProperty", "fileObject", "fileSet", "format", "includes",
        "isLiveDataset", "jsonPath", "key", "md5", "parentField", "path", "recordSet", "references", "regex", "repeated",
        "replace", "separator", "source", "subField", "transform",
    )},
    "citeAs": "cr:citeAs",
    "conformsTo": "dct:conformsTo",
    "cr": "http://mlcommons.org/croissant/",
    "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "dct": "http://purl.org/dc/terms/",
    "examples": {"@id": "cr:examples", "@type": "@json"},
    "rai": "http://mlcommons.org/croissant/RAI/",
    "samplingRate": "cr:samplingRate",
    "sc": "https://schema.org/",
}  # fmt: skip
_FORMATS = {".csv": "text/csv", ".json": "application/json", ".parquet": "application/x-parquet"}
_KINDS = {"b": "sc:Boolean", "f": "sc:Float", "i": "sc:Integer"}


def describe_record(results: Path) -> dict[str, Any]:
    """A Croissant 1.0 description: every file but those written by hand, and the columns of the large tables and manifests."""
    study = json.loads((results / "study.json").read_text())
    paths = sorted(path for path in results.rglob("*") if path.suffix in _FORMATS and path.name != NAME)
    files = {path.relative_to(results).as_posix(): path for path in paths}
    tables = {
        name: path for name, path in files.items() if path.parent in (results, results / "manifests") and path.suffix != ".json"
    }
    return {
        "@context": CONTEXT,
        "@type": "sc:Dataset",
        "name": "mpox-recorded-study",
        "description": (
            "What networks and linear probes said of every image of two public collections of photographs of skin (Mpox, other "
            "rashes, healthy skin), by the way the images were divided: manifests, audits of copies, divisions, configurations, "
            "out-of-fold predictions and metrics; of two linear probes also the coefficients. No image is in it."
        ),
        "conformsTo": "http://mlcommons.org/croissant/1.0",
        "license": "https://spdx.org/licenses/MIT",
        "citeAs": "the mpox study: Can deep learning really recognize Mpox? The recorded study.",
        "creator": {"@type": "sc:Organization", "name": "the mpox study"},
        "version": study.get("versions", {}).get("mpox", "0"),
        "datePublished": study.get("finished", "")[:10],
        "distribution": [
            {"@type": "cr:FileObject", "@id": name, "name": name, "contentUrl": name, "contentSize": f"{path.stat().st_size} B",
             "encodingFormat": _FORMATS[path.suffix], "sha256": sha256(path)}
            for name, path in files.items()
        ],
        "recordSet": [_record_set(name, path) for name, path in tables.items()],
    }  # fmt: skip


def _record_set(name: str, path: Path) -> dict[str, Any]:
    """The columns of a table, with their types."""
    parquet = path.suffix == ".parquet"
    table = pq.read_schema(path).empty_table().to_pandas() if parquet else pd.read_csv(path, dtype={"patient_id": "str"})
    about = name.rsplit(".", 1)[0]
    return {
        "@type": "cr:RecordSet",
        "@id": about,
        "name": about,
        "field": [
            {"@type": "cr:Field", "@id": f"{about}/{column}", "name": f"{about}/{column}",
             "dataType": _KINDS.get(getattr(kind, "kind", "O"), "sc:Text"),
             "source": {"fileObject": {"@id": name}, "extract": {"column": column}}}
            for column, kind in table.dtypes.items()
        ],
    }  # fmt: skip


def write_description(results: Path) -> None:
    """Write `describe_record` beside the record."""
    atomic_write(results / NAME, json.dumps(describe_record(results), indent=1) + "\n")
