"""Time zones that files may name: those of the tz database, and fixed offsets.

Of other names pandas makes zones, too, and some of them are paths that it opens.
"""

import re
from zoneinfo import ZoneInfo

OFFSET = re.compile(r"(UTC)?[+-]\d\d:?\d\d(:?\d\d)?")
KEY = re.compile(r"[A-Za-z][\w+-]*(/[A-Za-z][\w+-]*)*", re.ASCII)
# Keys that are links out of the database on some systems.
LINKS = ("localtime", "posixrules")
# Zones in the names of dtypes, of pandas and of pyarrow.
ZONE_OF_DTYPE = re.compile(r"(?:(?:datetime64|M8)\[[^][,]+, ?|tz=)([^][,]+)\]")
# What is left of a name where a zone may still hide.
MAY_BE_ZONED = re.compile(r"(datetime64|M8)\[[^]]*,|tz=|dateutil|[/\\]")


def check_zone(name):
    """Raise ValueError unless a zone is in the tz database or a fixed offset."""
    if OFFSET.fullmatch(name):
        return
    try:
        # Only names that cannot lead out of the database are looked up.
        if not KEY.fullmatch(name) or name in LINKS:
            raise ValueError(name)
        ZoneInfo(name)
    except (ValueError, KeyError, OSError) as error:
        raise ValueError(
            f"it names the time zone {name!r:.60}, which is none of the tz database"
        ) from error


def check_zones_of_dtype(name):
    """Raise ValueError unless all zones in the name of a dtype are in the tz database."""
    for zone in ZONE_OF_DTYPE.findall(name):
        check_zone(zone)
    if MAY_BE_ZONED.search(ZONE_OF_DTYPE.sub("", name)):
        raise ValueError(f"it names the dtype {name!r:.60}, whose time zone may be a file")


def saved_zone(check, name, path):
    """Raise TypeError if what is saved has a zone that could not be loaded."""
    try:
        check(name)
    except ValueError as error:
        raise TypeError(f"{path} cannot be saved: {error}.") from error
