"""Links in the text of pages, made when the book is built: notebooks stay plain."""

import re

PLAIN = re.compile(  # not in code, formulas, links, tags and headings
    r"(```.*?```|`[^`\n]+`|\$\$.*?\$\$|\$[^$\n]+\$|!?\[[^\]]*\]\([^)]*\)|<[^>]+>"
    r"|^#+ [^\n]*$)",
    re.DOTALL | re.MULTILINE,
)
MENTION = re.compile(r"\b[Cc]hapters?\s+\d+(?:(?:,| and| or| to|, and)\s+\d+)*\b")
WORK = re.compile(r"^\* (?=\S)(.*?)(?=^\* |^#|\Z)", re.DOTALL | re.MULTILINE)
YEAR = re.compile(r"\b(?:19|20)\d\d[a-z]?\b")


def outside(text: str, change) -> str:
    """Change text where it is plain prose."""
    parts = PLAIN.split(text)
    parts[::2] = map(change, parts[::2])
    return "".join(parts)


def link_chapters(text: str, stems: dict[int, str], own: int = 0) -> str:
    """Link "chapter 3" and each number of "chapters 3 and 4" to chapters that exist."""

    def linked(match):
        words = match[0]
        whole = words[: len("chapters")].lower() != "chapters"
        found = re.compile(r".*" if whole else r"\d+", re.DOTALL)
        return found.sub(number, words, count=1 if whole else 0)

    def number(match):
        n = int(re.search(r"\d+", match[0])[0])
        if n == own or n not in stems:
            return match[0]
        return f"[{match[0]}](/notebooks/{stems[n]}.ipynb)"

    return outside(text, lambda part: MENTION.sub(linked, part))


def works(text: str) -> dict[str, tuple[str, str]]:
    """Return {first line of an entry in a list of references: (surname, year)}."""
    found = {}
    for entry in WORK.findall(text.partition("## References")[2]):
        authors = re.split(r",|\. (?=\*)| et al", entry, maxsplit=1)[0]
        years = YEAR.findall(entry.partition("<http")[0])
        if years:
            letter = re.search(r"\(((?:19|20)\d\d[a-z]) above\)", entry)
            year = letter[1] if letter else years[-1]
            found[entry.partition("\n")[0]] = (authors.split()[-1].rstrip("."), year)
    return found


def link_works(text: str, known: dict[str, tuple[str, str]]) -> str:
    """Link "Gatys et al. (2016)" and the like to the entries, which get an anchor."""
    for line, (name, year) in known.items():
        anchor = f"ref-{name.lower()}-{year}"
        text = text.replace(f"* {line}", f'* <a id="{anchor}"></a>{line}')
        between = r"(?:et\s+al\.|[^().;:<>])"
        cited = re.compile(rf"\b{name}\b{between}{{0,60}}?(?:\({year}\)|\s{year}\b)")
        link = rf'<a class="reference internal" href="#{anchor}">\g<0></a>'
        text = outside(text, lambda part, c=cited, to=link: c.sub(to, part))
    return text
