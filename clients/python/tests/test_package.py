"""Rules about the package that nothing else checks."""

import ast
import re
import sys
import unittest

from support import ROOT

PACKAGE = ROOT / "clients" / "python"
SOURCES = sorted((PACKAGE / "src" / "adamant").glob("*.py"))

#: What may be imported beside the standard library, and where.
OTHERS = {
    "_digest.py": {"blake3"},
    "fastapi.py": {"fastapi"},
    "django.py": {"django"},
    "wsgi.py": {"_typeshed"},
}
LINES_MAX = 600


class Rules(unittest.TestCase):
    def test_the_standard_library_is_enough(self) -> None:
        if sys.version_info < (3, 10):
            self.skipTest("not run: only Python 3.10 and later know the names of their library")
        for file in SOURCES:
            names = set()
            for node in ast.walk(ast.parse(file.read_text())):
                if isinstance(node, ast.Import):
                    names.update(alias.name.split(".")[0] for alias in node.names)
                elif isinstance(node, ast.ImportFrom) and node.level == 0:
                    names.add((node.module or "").split(".")[0])
            others = {name for name in names if name not in sys.stdlib_module_names}
            self.assertEqual(others, OTHERS.get(file.name, set()), file.name)

    def test_no_file_is_too_long(self) -> None:
        for file in [*SOURCES, *(PACKAGE / "tests").glob("*.py")]:
            self.assertLessEqual(len(file.read_text().splitlines()), LINES_MAX, file.name)

    def test_the_licences_are_the_projects(self) -> None:
        for name in ("LICENSE-MIT", "LICENSE-APACHE"):
            self.assertEqual((PACKAGE / name).read_text(), (ROOT / name).read_text(), name)

    def test_the_first_lines_of_the_readme_can_be_read_by_python(self) -> None:
        blocks = re.findall(r"```python\n(.*?)```", (PACKAGE / "README.md").read_text(), re.DOTALL)
        self.assertGreater(len(blocks), 3)
        for block in blocks:
            compile(block, "README.md", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)


if __name__ == "__main__":
    unittest.main()
