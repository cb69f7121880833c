"""No two modules need each other, not even inside a function."""

import grimp


def circles(graph: grimp.ImportGraph) -> list[set[str]]:
    """The strongly connected parts of more than one module (Tarjan, "Depth-first search and linear graph algorithms",
    1972)."""
    number: dict[str, int] = {}
    lowest: dict[str, int] = {}
    path: list[str] = []
    found: list[set[str]] = []

    def visit(module: str) -> None:
        number[module] = lowest[module] = len(number)
        path.append(module)
        for imported in graph.find_modules_directly_imported_by(module):
            if imported not in number:
                visit(imported)
            if imported in path:
                lowest[module] = min(lowest[module], lowest[imported])
        if lowest[module] == number[module]:
            at = path.index(module)
            if len(part := path[at:]) > 1:
                found.append(set(part))
            del path[at:]

    for module in graph.modules:
        if module not in number:
            visit(module)
    return found


def test_no_module_imports_itself_by_way_of_others():
    assert circles(grimp.build_graph("llm_engineering", "steps", "pipelines", "tools")) == []


def test_a_circle_would_be_found():
    graph = grimp.ImportGraph()
    for importer, imported in (("a", "b"), ("b", "c"), ("c", "a"), ("c", "d")):
        graph.add_module(importer)
        graph.add_module(imported)
        graph.add_import(importer=importer, imported=imported)
    assert circles(graph) == [{"a", "b", "c"}]
