"""The language of a file, by its name.

Not identify's tags: 34 of these names it does not know, 9 it gives several languages, and 36 it calls otherwise than a
reader would (`test_the_language_is_told_by_the_name`).
"""

LANGUAGES = {
    ".adoc": "asciidoc", ".asm": "assembly", ".astro": "astro", ".awk": "awk", ".bash": "shell", ".bat": "batch",
    ".bib": "bibtex", ".bzl": "starlark", ".c": "c", ".cc": "c++", ".cfg": "ini", ".cjs": "javascript", ".cl": "opencl",
    ".clj": "clojure", ".cljs": "clojure", ".cmake": "cmake", ".coffee": "coffeescript", ".conf": "ini", ".cpp": "c++",
    ".cr": "crystal", ".cs": "c#", ".csh": "shell", ".css": "css", ".csv": "csv", ".cu": "cuda", ".cuh": "cuda",
    ".cxx": "c++", ".d": "d", ".dart": "dart", ".diff": "diff", ".el": "emacs-lisp", ".elm": "elm", ".erl": "erlang",
    ".ex": "elixir", ".exs": "elixir", ".f90": "fortran", ".fish": "shell", ".fs": "f#", ".fsx": "f#",
    ".gd": "gdscript",
    ".glsl": "glsl", ".go": "go", ".gql": "graphql", ".gradle": "gradle", ".graphql": "graphql", ".groovy": "groovy",
    ".h": "c", ".hcl": "hcl", ".hh": "c++", ".hpp": "c++", ".hrl": "erlang", ".hs": "haskell", ".htm": "html",
    ".html": "html", ".hxx": "c++", ".ini": "ini", ".ino": "c++", ".ipynb": "notebook", ".j2": "jinja",
    ".java": "java", ".jinja": "jinja", ".jl": "julia", ".js": "javascript", ".json": "json", ".jsonc": "json",
    ".jsonl": "json", ".jsx": "javascript", ".kt": "kotlin", ".kts": "kotlin", ".less": "less", ".lisp": "lisp",
    ".lua": "lua", ".m": "objective-c", ".markdown": "markdown", ".md": "markdown", ".mdx": "markdown",
    ".mjs": "javascript", ".mk": "make", ".ml": "ocaml", ".mli": "ocaml", ".mm": "objective-c", ".nim": "nim",
    ".nix": "nix", ".org": "org", ".pas": "pascal", ".patch": "diff", ".php": "php", ".pl": "perl", ".pm": "perl",
    ".proto": "protobuf", ".ps1": "powershell", ".pxd": "cython", ".py": "python", ".pyi": "python", ".pyx": "cython",
    ".r": "r", ".rb": "ruby", ".rkt": "racket", ".rmd": "markdown", ".rs": "rust", ".rst": "restructuredtext",
    ".sass": "sass", ".scala": "scala", ".scm": "scheme", ".scss": "scss", ".sh": "shell", ".sol": "solidity",
    ".sql": "sql", ".sv": "systemverilog", ".svelte": "svelte", ".swift": "swift", ".tcl": "tcl", ".tex": "latex",
    ".text": "text", ".tf": "hcl", ".thrift": "thrift", ".toml": "toml", ".ts": "typescript", ".tsv": "csv",
    ".tsx": "typescript", ".txt": "text", ".v": "verilog", ".vb": "visual-basic", ".vhdl": "vhdl", ".vim": "vim",
    ".vue": "vue", ".wgsl": "wgsl", ".xml": "xml", ".xsl": "xml", ".yaml": "yaml", ".yml": "yaml", ".zig": "zig",
    ".zsh": "shell",
}  # fmt: skip
NAMED = {
    "cmakelists.txt": "cmake", "containerfile": "docker", "dockerfile": "docker", "gemfile": "ruby", "go.mod": "go",
    "jenkinsfile": "groovy", "justfile": "just", "makefile": "make", "rakefile": "ruby", "vagrantfile": "ruby",
    "authors": "text", "changelog": "text", "codeowners": "text", "contributing": "text", "copying": "text",
    "license": "text", "licence": "text", "notice": "text", "readme": "text",
}  # fmt: skip
MEDIA_TYPES = {"markdown": "text/markdown", "text": "text/plain", "restructuredtext": "text/plain", "org": "text/plain",
         "asciidoc": "text/plain", "latex": "text/plain", "notebook": "application/x-ipynb+json"}  # fmt: skip


def language_of(name: str) -> str:
    """By the name alone; "text" for what no list knows."""
    base = name.rpartition("/")[2].lower()
    stem, dot, suffix = base.rpartition(".")
    return NAMED.get(base) or LANGUAGES.get(dot + suffix if stem else "") or NAMED.get(base.partition(".")[0]) or "text"
