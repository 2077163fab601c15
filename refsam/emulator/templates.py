"""Kernels from templates: `template [[host_name("add_f")]] kernel void add<float>(...);` becomes a kernel `add_f` of its own.

Clang's OpenCL has no kernel templates, so the text is copied: the definition, with its types and numbers declared at the head of
its body. Copies stand at the end, after #line, so that every message has the line of the template.
"""

import re
from dataclasses import dataclass

from refsam.emulator.parse import closing, line_of, refusal, split, without_comments

DEFINITION = re.compile(r"\btemplate\s*(?=<)")
HEAD = re.compile(r"\s*(?:\[\[[^\]]*\]\]\s*)*kernel\s+void\s+(\w+)\s*\(")
BODY = re.compile(r"\s*(?:\[\[[^\]]*\]\]\s*)*\{")
INSTANCE = re.compile(r"\btemplate\s*\[\[\s*host_name\s*\(\s*\"(\w+)\"\s*\)\s*\]\]([^;#{}]*);")
DIRECTIVE = re.compile(r"^[ \t]*#(?:\\\n|[^\n])*", re.MULTILINE)
PARAMETER = re.compile(r"(typename|class|[\w:]+(?:\s+[\w:]+)*?)\s+(\w+)\s*(?:=\s*(.+))?", re.DOTALL)


@dataclass(frozen=True)
class Template:
    """A kernel template: its text from behind `template <...>` to the last brace, in two halves around the opening brace."""

    name: str
    line: int
    parameters: tuple[tuple[str, str, str | None], ...]
    head: str
    body: str

    def instance(self, name: str, arguments: list[str], line: int) -> str:
        """The kernel of that name for these arguments."""
        values = [*arguments, *(default for _, _, default in self.parameters[len(arguments) :])]
        if len(arguments) > len(self.parameters) or None in values:
            raise refusal(
                line, f"kernel '{name}': {self.name} has {len(self.parameters)} template parameters; {len(arguments)} are given"
            )
        given = [(kind, own, value) for (kind, own, _), value in zip(self.parameters, values, strict=True)]
        types = {own: str(value) for kind, own, value in given if kind in ("typename", "class")}
        head = re.sub(rf"\b{self.name}(\s*\()", rf"{name}\1", self.head, count=1)
        for own, value in types.items():
            head = re.sub(rf"\b{own}\b", value, head)
        declared = [
            f"using {own} = {value};" if own in types else f"constexpr {kind} {own} = {value};" for kind, own, value in given
        ]
        return f'\n#line {self.line} "program_source"\n{head}{{ {" ".join(declared)}{self.body}'


def instantiated(source: str) -> str:
    """The source without kernel templates, and with a kernel for each instantiation that has a host_name.

    Raises error, with the line, on an instantiation that the emulator does not understand.
    """
    text = without_comments(source)
    templates: dict[str, Template] = {}
    for match in DEFINITION.finditer(text):
        found = _template(text, match)
        if found is not None:
            template, end = found
            templates[template.name] = template
            source = _blank(source, match.start(), end)
    # Neither in a comment nor in a macro, whose words are not known here.
    code = {found.start() for found in re.finditer(r"\btemplate\b", DIRECTIVE.sub(lambda found: " " * len(found[0]), text))}
    copies = []
    for match in INSTANCE.finditer(source):
        if match.start() in code:
            copies.append(_copy(match, templates, line_of(source, match.start())))
            source = _blank(source, match.start(), match.end())
    return source + "".join(copies)


def _template(text: str, match: re.Match[str]) -> tuple[Template, int] | None:
    """The kernel template that begins here, and where it ends; None where it is none of a kernel."""
    line = line_of(text, match.start())
    inner = closing(text, match.end() + 1, line, "<>")
    head = HEAD.match(text, inner + 1)
    if head is None:
        return None
    parameters = tuple(_parameter(part.strip(), line) for part in split(text[match.end() + 1 : inner]))
    opened = BODY.match(text, closing(text, head.end(), line) + 1)
    if opened is None:
        raise refusal(line, f"kernel template '{head[1]}' has no body here: the emulator needs it where the template is declared")
    brace = opened.end() - 1
    end = closing(text, brace + 1, line, "{}") + 1
    begin = head.start() + len(head[0]) - len(head[0].lstrip())
    return Template(head[1], line_of(text, begin), parameters, text[begin:brace], text[brace + 1 : end]), end


def _parameter(text: str, line: int) -> tuple[str, str, str | None]:
    found = PARAMETER.fullmatch(text)
    if found is None:
        raise refusal(line, f"template parameter `{text}` of a kernel is unknown to the emulator")
    return found[1], found[2], found[3]


def _copy(match: re.Match[str], templates: dict[str, Template], line: int) -> str:
    """`match` is `template [[host_name("NAME")]] ... f<ARGUMENTS>...;`: its parameters are those of the definition."""
    used = [found for found in re.finditer(r"\b(\w+)\s*<", match[2]) if found[1] in templates]
    if not used:
        raise refusal(line, f"kernel '{match[1]}': no kernel template is named in `{' '.join(match[2].split())}`, as in f<float>")
    begin = used[-1].end()
    arguments = [part.strip() for part in split(match[2][begin : closing(match[2], begin, line, "<>")])]
    return templates[used[-1][1]].instance(match[1], arguments, line)


def _blank(text: str, begin: int, end: int) -> str:
    """Nothing there but its line ends."""
    return text[:begin] + re.sub(r"[^\n]", " ", text[begin:end]) + text[end:]
