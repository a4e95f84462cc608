"""The commands ``mpox pack`` and ``mpox pack show``."""

from pathlib import Path

import click


class _PackGroup(click.Group):
    """``mpox pack DATASET...`` writes; only the word ``show`` in the first place means another command."""

    def parse_args(self, context: click.Context, args: list[str]) -> list[str]:
        return super().parse_args(context, args if args[:1] == ["show"] else ["write", *args])


def _numbers(context: click.Context, parameter: click.Parameter, value: str) -> list[int]:
    try:
        return sorted({int(word) for word in value.split(",") if word.strip()})
    except ValueError:
        raise click.BadParameter(f"{value!r} is no list of whole numbers like 160,224.") from None


def _words(context: click.Context, parameter: click.Parameter, value: str) -> list[str]:
    return list(dict.fromkeys(word.strip() for word in value.split(",") if word.strip()))


@click.group("pack", cls=_PackGroup)
def pack() -> None:
    """Write pictures, weights and audits into one file, for a machine without network."""


@pack.command("write", short_help="Write a pack.")
@click.argument("datasets", nargs=-1, metavar="[DATASET]...")
@click.option("--sizes", default="", callback=_numbers, metavar="N,N", help="Sides in pixels at which pictures are packed.")
@click.option(
    "--backbones", default="", callback=_words, metavar="NAME,NAME", help="timm models whose ImageNet weights are packed."
)
@click.option("--profile", metavar="NAME|FILE", help="Pack what a run of this profile needs; the other words add to it.")
@click.option("--out", required=True, type=click.Path(path_type=Path), help="The file; its name ends in .mpoxpack.")
@click.option("--data-dir", metavar="DIR", help="Where the registered data sets lie (default: MPOX_DATA, then the cache folder).")
@click.option("--force", is_flag=True, help="Write over a file that exists.")
def write(datasets, sizes, backbones, profile, out, data_dir, force) -> None:
    """Write one file that `mpox run --pack FILE` reads on a machine without network and without pictures.

    \b
    mpox pack --profile cpu --out study.mpoxpack
    mpox pack msid ./my_pictures --sizes 160,224 --backbones tf_efficientnet_lite1 --out mine.mpoxpack
    mpox pack show study.mpoxpack

    It holds, of each DATASET, the manifest, the audit and the decoded pictures; and weights, versions and checksums. Data sets
    that are packed together are audited together. It contains pictures of patients: do not publish it.
    """
    from mpox.pack_write import Needs, needs_of_profile, write_pack

    asked = needs_of_profile(profile) if profile else Needs([], [], [], [])
    needs = Needs(
        list(dict.fromkeys([*asked.datasets, *datasets])),
        sorted({*asked.sizes, *sizes}),
        list(dict.fromkeys([*asked.backbones, *backbones])),
        asked.welcome,
    )
    contents = write_pack(out, needs, data_dir=data_dir, force=force, say=click.echo)
    images = sum(data.images for data in contents.datasets)
    click.echo(
        f"Packed {len(contents.datasets)} data sets ({images} images) and weights of {len(contents.backbones)} backbones in "
        f"{out} ({contents.size_mb:,.1f} MB)."
    )
    if not all(data.is_phantom for data in contents.datasets):
        click.echo(f"{out} contains pictures of patients: do not publish it.")


@pack.command("show")
@click.argument("file", type=click.Path(path_type=Path))
def show(file: Path) -> None:
    """List what the pack FILE contains; nothing is unpacked."""
    from mpox.pack_read import read_contents

    contents, digest = read_contents(file)
    rows = []
    for data in contents.datasets:
        counts = ", ".join(f"{count} {label}" for label, count in data.classes.items())
        title = f"{data.name} (phantom, not patients)" if data.is_phantom else data.name
        rows.append(("data set", f"{title}: {data.images} images ({counts})"))
    rows += [("sizes", ", ".join(f"{size} px" for size in contents.sizes) or "none")]
    rows += [("weights", f"{backbone}: {origin}") for backbone, origin in contents.backbones.items()]
    rows += [("audits", ", ".join("+".join(audit.names) for audit in contents.audits) or "none")]
    rows += [("versions", ", ".join(f"{name} {version}" for name, version in contents.environment.items()))]
    rows += [("size", f"{contents.size_mb:,.1f} MB in {len(contents.members)} members"), ("pack", digest[:16])]
    for name, value in rows:
        click.echo(f"{name:<9}  {value}")
    if not all(data.is_phantom for data in contents.datasets):
        click.echo("It contains pictures of patients: do not publish it.")
