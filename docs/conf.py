"""How `make docs` builds the site: the Markdown of this folder, every warning an error."""

project = "Ragline"
author = "the Ragline founders"
copyright = "2026, the Ragline founders"  # noqa: A001 - Sphinx asks for this name
extensions = ["myst_parser"]
root_doc = "contents"
exclude_patterns = ["examples/**"]
myst_heading_anchors = 4
html_theme = "furo"
html_title = "Ragline"
html_copy_source = False
html_show_sphinx = False
