"""rapidjson 1.1.0's error texts (rapidjson/error/en.h) and white space."""

import re

SPACE = re.compile(rb"[ \t\n\r]*+")

DOCUMENT_EMPTY = "The document is empty."
VALUE = "Invalid value."
NAME = "Missing a name for object member."
COLON = "Missing a colon after a name of object member."
COMMA_OR_BRACE = "Missing a comma or '}' after an object member."
COMMA_OR_BRACKET = "Missing a comma or ']' after an array element."
HEX = "Incorrect hex digit after \\u escape in string."
SURROGATE = "The surrogate pair in string is invalid."
ESCAPE = "Invalid escape character in string."
QUOTE = "Missing a closing quotation mark in string."
TOO_BIG = "Number too big to be stored in double."
FRACTION = "Miss fraction part in number."
EXPONENT = "Miss exponent in number."


class JsonSyntaxError(Exception):
    """The text is not JSON: rapidjson's text and the byte it points at."""

    def __init__(self, text: str, offset: int) -> None:
        self.text = text
        self.offset = offset
        super().__init__(text, offset)
