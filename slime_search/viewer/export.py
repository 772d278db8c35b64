"""Rollouts as one file that holds all it shows and asks the network for nothing."""

from markupsafe import Markup

from slime_search.errors import DataError
from slime_search.viewer.library import Library, share_of
from slime_search.viewer.rendering import asset, csp_hash, environment
from slime_search.viewer.selection import Selection, select
from slime_search.viewer.views import view

LIMIT = 100
"""Rollouts of a file, unless the user says otherwise; each takes some 50 kB."""


def export(library: Library, selection: Selection, *, limit: int) -> str:
    """A page with the first ``limit`` rollouts of a selection.

    Raises:
        DataError: the selection is empty, or a rollout's line is bad.
    """
    numbers = select(library, selection)
    if not numbers:
        raise DataError("export: no rollout fits the filters; take one away")
    chosen = numbers[:limit]
    entries = [library.entries[number] for number in chosen]
    style, script = asset("page.css"), asset("tokens.js") + asset("report.js")
    page = environment("slime_search.viewer").get_template("export.html.j2")
    return page.render(
        title=library.title,
        filters=selection.model_dump(exclude_defaults=True),
        total=len(library.entries),
        found=len(numbers),
        share=share_of(library.entries[number].facts.right for number in numbers),
        rollouts=[
            (library.checkpoint_of(entry), view(library.read(number)))
            for number, entry in zip(chosen, entries, strict=True)
        ],
        style=Markup(style),
        script=Markup(script),
        style_hash=csp_hash(style),
        script_hash=csp_hash(script),
    )
