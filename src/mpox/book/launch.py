"""Links under a chapter's title that open its notebook in Binder or Colab, where the project has a public address."""

import re
from collections.abc import Mapping

from mpox._core import MpoxError

_GITHUB = re.compile(r"https://github\.com/([\w.-]+/[\w.-]+?)(?:\.git|/)?")


def launch_links(repository: Mapping[str, str] | None, name: str) -> str:
    """Markdown links to the committed notebook of a chapter, which shows the phantom.

    Parameters
    ----------
    repository : mapping
        ``repository`` of ``_config.yml``: ``url`` is the project's public address at GitHub, or empty; ``branch`` is ``main``
        if not given.
    name : str
        The chapter's name, such as ``03_cross_validation``.

    Returns
    -------
    str
        Empty without an address.

    Raises
    ------
    MpoxError
        If the address is not one of a repository at GitHub, which both services read.

    Examples
    --------
    >>> launch_links({"url": ""}, "03_cross_validation")
    ''
    """
    repository = repository or {}
    url, branch = repository.get("url") or "", repository.get("branch") or "main"
    if not url:
        return ""
    if not (match := _GITHUB.fullmatch(url)):
        raise MpoxError(f"repository.url in _config.yml is {url}: it must be https://github.com/OWNER/REPOSITORY, or empty.")
    path = f"notebooks/{name}.ipynb"
    binder = f"https://mybinder.org/v2/gh/{match[1]}/{branch}?urlpath=lab/tree/{path}"
    colab = f"https://colab.research.google.com/github/{match[1]}/blob/{branch}/{path}"
    return f"Open this notebook in [Binder]({binder}) or [Colab]({colab})."
