"""The press: it carries chapters from .py to .ipynb, runs, checks and stamps them.

Called as `python book/publish sync|run|check|doctor`. It never imports the course's
package, nor the other way round.
"""


class ChapterError(ValueError):
    """Something about a chapter that a person must put right; the message says how."""
