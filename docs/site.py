"""What the site adds to the pages in docs/: those at the root of the repository, with links that fit the site."""

import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = {"README.md": "index.md", "CHANGELOG.md": "changelog.md", "CONTRIBUTING.md": "contributing.md"}


def on_files(files: Files, config: MkDocsConfig) -> Files:
    folder = Path(config.config_file_path).parent
    for name, uri in ROOT.items():
        files.append(File.generated(config, uri, content=(folder / name).read_text().replace("](docs/", "](")))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Links between the root and docs/ are right in a repository; on the site both are one folder."""
    return re.sub(r"\]\((?:\.\./)?([A-Z]+\.md)", lambda match: f"]({ROOT.get(match[1], match[1])}", markdown)
