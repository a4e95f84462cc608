"""The command ``mpox exercises``."""

import click


@click.command("exercises")
@click.option("--check", is_flag=True, help="Write nothing; fail if a learner notebook is not in step with its chapter.")
def exercises(check: bool) -> None:
    """Derive the learner notebooks in notebooks/exercises from the chapters: solutions become blanks."""
    from mpox.errors import MpoxError
    from mpox.exercises import stale_exercises, write_exercises

    if not check:
        write_exercises(say=click.echo)
    elif stale := stale_exercises():
        raise MpoxError(f"Exercises not in step with their chapters: {', '.join(stale)}. Run `mpox exercises`.")
