"""Addresses without what only their owner may know: every text that leaves the command goes through here."""

import re
from typing import Any
from urllib.parse import unquote

HIDDEN = "***"
_SCHEME = r"[A-Za-z][A-Za-z0-9+.\-]+:/{1,3}"  # of two letters at least: C:/ is a drive
_IN_URL = r"[^\s'\"<>\\^`{|}]"
_URL = re.compile(rf"{_SCHEME}{_IN_URL}*(?![,;:.)]){_IN_URL}")  # what ends a sentence is no part of it
_BARE = re.compile(
    r"(?<![\w/@.])[^\s/:@'\"]+:[^\s/@'\"]+@(?=[\w.\-\[]+)"
)  # user:password@host without a scheme
_PAIR = re.compile(r"(?P<name>[^/?&;#=]+)=(?P<value>[^/?&;#]*)")
_SECRET = "|".join(
    (
        r"pass(?:word|wd|phrase)?|pwd|passw|secret|credentials?|auth(?:orization|enticate)?|bearer|jwt|otp",
        r"(?:[\w\-]*[_\-])?(?:token|signature|api[_\-]?key|access[_\-]?key|secret[_\-]?key|session[_\-]?id)",
    )
)
_FIELD = re.compile(r"(?P<name>[^=]+)=(?P<value>.*)", re.DOTALL)  # of a query: to its end, whatever it holds
_JWT = re.compile(r"eyJ[\w\-]+\.[\w\-]+\.[\w\-]*")
_LOOSE = re.compile(rf"(?i)(?<![\w/])((?:{_SECRET})\s*[=:]\s*(?:(?:basic|bearer|digest)\s+)?)[^\s&;,'\"]+")
# names in a query whose values say what is shown, not who may see it
_PLAIN_WORDS = (
    "action audio bitrate camera cam channel channelid ch codec compression container fmt "
    "format fps framerate height input inst live mode port profile proto protocol quality "
    "rate res resolution rotation scale size start stop stream streamtype subtype "
    "subtitle timeout track transport type unicast v video videocodec width "
)
_PLAIN = frozenset(_PLAIN_WORDS.split())
_INNOCENT = re.compile(r"[\w.,:x\-]{0,24}")
_AFTER = frozenset(
    ("token", "key", "secret", "auth", "sig", "signature", "jwt", "password", "apikey")
)  # /token/VALUE/


def masked(text: str, address: bool = False) -> str:
    """The text with user names, passwords, tokens, keys and signatures of addresses replaced by ***.

    Of an address everything before its @ goes, and the value of every field whose name is not known to say
    only what is shown (channel=1 stays; key=..., sig=... and names nobody knows go), also in a path
    (user=a&password=b.sdp, /token/VALUE/) and in a fragment, written plainly or with percent signs.

    address: the whole text is one, whatever characters it holds.
    """
    if address and re.match(_SCHEME, text):
        return _address(text)
    text = _URL.sub(lambda match: _address(match[0]), text)
    text = _BARE.sub(f"{HIDDEN}@", text)
    return _LOOSE.sub(lambda match: match[1] + HIDDEN, text)


def masked_data(value: Any) -> Any:
    """A value for JSON with every text in it masked."""
    if isinstance(value, str):
        return masked(value)
    if isinstance(value, dict):
        return {k: masked_data(v) for k, v in value.items()}
    return [masked_data(v) for v in value] if isinstance(value, list | tuple) else value


def hide_in(error: BaseException | None) -> None:
    """Masks the texts of an exception, and of those behind it, in place."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        error.args = tuple(masked(a) if isinstance(a, str) else a for a in error.args)
        for name in ("filename", "filename2", "strerror", "log"):
            if isinstance(value := getattr(error, name, None), str | tuple):
                try:
                    setattr(error, name, masked_data(value))
                except (AttributeError, TypeError):
                    continue
        error = error.__cause__ or error.__context__


def _address(url: str) -> str:
    parts = re.match(r"([^:]+)(:/+)(.*)", url, re.DOTALL)
    assert parts is not None, "_SCHEME and _URL begin so"
    scheme, slashes, rest = parts.groups()
    if scheme == "file":
        return url
    rest = _without_user(rest)
    place, mark, query = rest.partition("?")
    host, slash, path = place.partition("/")
    query, hash_, fragment = query.partition("#")
    fields = [
        _FIELD.sub(_field, part) if "=" in part else part if part in "&;" else _plain_word(part)
        for part in re.split("([&;])", query)
    ]
    return f"{scheme}{slashes}{host}{slash}{_path(path)}{mark}{''.join(fields)}{hash_}{_path(fragment)}"


def _without_user(rest: str) -> str:
    """Drops user:password@; a password may hold @, / and ? although it should not."""
    authority = re.split(r"[/?#]", rest, maxsplit=1)[0]
    if "@" in authority:
        start = authority.rindex("@")
    elif re.search(r"(?i)%40", authority):
        start = [m.end() - 1 for m in re.finditer(r"(?i)%40", authority)][-1]
    elif ":" in authority and not authority.startswith("[") and "@" in rest:
        start = rest.rindex("@")  # user:pa/ss@host: what looks like a port is the beginning of a password
    else:
        return rest
    return f"{HIDDEN if start else ''}@{rest[start + 1 :]}"


def _path(path: str) -> str:
    path = _PAIR.sub(_field, path)
    parts = re.split(r"([/;#])", path)
    for i in range(2, len(parts), 2):
        if unquote(parts[i - 2]).lower() in _AFTER:
            parts[i] = HIDDEN
    return _JWT.sub(HIDDEN, "".join(parts))


def _plain_word(word: str) -> str:
    """A word of a query without a value: short ones of letters say what is shown, others may be a key."""
    return word if re.fullmatch(r"[A-Za-z_\-]{0,12}", word) else HIDDEN


def _field(match: re.Match[str]) -> str:
    """A field of a query or a path; a value that is an address, or long, is not known to be harmless."""
    name, value = unquote(match["name"]), unquote(match["value"])
    if name.lower().lstrip("?&") in _PLAIN and _INNOCENT.fullmatch(value):
        return match[0]
    return f"{match['name']}={HIDDEN}"
