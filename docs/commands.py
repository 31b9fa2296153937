"""Keeps the options of commands in one piece where a line breaks."""

import re

OPTION = re.compile(r"(?<=[\s>])--[a-z][\w-]*")


def on_page_content(html, **kwargs):
    """Marks each option, for the style of the site."""
    return OPTION.sub(r'<span class="option">\g<0></span>', html)
