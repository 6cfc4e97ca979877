#!/usr/bin/env python3
"""Writes the data of the built-in calendars, and checks the calendars against their references.

    python3 -m venv venv
    venv/bin/pip install exchange_calendars==4.13.2 pandas_market_calendars==5.5.0
    venv/bin/python scripts/calendars.py generate    # writes src/market/calendar/venues/*.json
    venv/bin/python scripts/calendars.py check       # compares every session; fails on a difference

References: exchange_calendars 4.13.2 (Apache-2.0) and pandas_market_calendars 5.5.0 (MIT). Only facts are taken from
them: days and times. Where a reference is wrong by the exchange's own announcements, CORRECTIONS says so; `check`
counts those sessions apart.

`check` asks the library itself, by way of `cargo run --example calendars`.
"""

import argparse
import csv
import io
import json
import subprocess
import sys
import warnings
from datetime import date, datetime, time, timedelta
from importlib.metadata import version
from pathlib import Path
from zoneinfo import ZoneInfo

warnings.filterwarnings("ignore")

import exchange_calendars  # noqa: E402
import pandas_market_calendars  # noqa: E402

REPOSITORY = Path(__file__).resolve().parent.parent
FOLDER = REPOSITORY / "src/market/calendar/venues"
PACKAGES = {"exchange_calendars": "4.13.2", "pandas_market_calendars": "5.5.0"}
UTC = ZoneInfo("UTC")
WEEKDAYS = ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"]

# Sessions are {day: (open, close, ((break start, break end), ...))}, in UTC.


def session(open, close, break_start=None, break_end=None):
    """One session; a break without length, or beyond the close, is none."""
    utc = lambda at: at.to_pydatetime().astimezone(UTC)  # noqa: E731
    missing = break_start is None or break_start != break_start or break_end != break_end
    breaks = () if missing or not break_start < break_end < close else ((utc(break_start), utc(break_end)),)
    return utc(open), utc(close), breaks


def xc(name, first, end):
    """Sessions of a calendar of exchange_calendars."""
    last = date.fromisoformat(end) - timedelta(days=1)
    table = exchange_calendars.get_calendar(name, start=first, end=last.isoformat()).schedule
    rows = zip(table.index, table["open"], table["close"], table["break_start"], table["break_end"])
    return {day.date(): session(*times) for day, *times in rows}


def pmc(name, first, end):
    """Sessions of a calendar of pandas_market_calendars."""
    last = date.fromisoformat(end) - timedelta(days=1)
    table = pandas_market_calendars.get_calendar(name).schedule(first, last.isoformat())
    columns = [table[name] for name in ("market_open", "market_close", "break_start", "break_end") if name in table]
    return {day.date(): session(*times) for day, *times in zip(table.index, *columns)}


def nyse(first, end):
    return pmc("NYSE", first, end)


def cme(first, end):
    """Days and early closes of one calendar, the daily halt of the other: each knows what the other leaves out."""
    halts = pmc("CME_Equity", first, end)
    found = {}
    for day, (open, close, _) in pmc("CME Globex Equity", first, end).items():
        breaks = halts[day][2] if day in halts else ()
        found[day] = (open, close, tuple(pause for pause in breaks if pause[1] < close))
    return found


def forex(first, end):
    """Without the sessions from Saturday to Sunday that the reference lists: its own description has none."""
    return {day: times for day, times in pmc("FOREX", first, end).items() if day.weekday() < 5}


def lunch(zone, start, end):
    def correct(day, times):
        at = lambda text: datetime.combine(day, time.fromisoformat(text), ZoneInfo(zone)).astimezone(UTC)  # noqa: E731
        return (times[0], times[1], ((at(start), at(end)),) if times[2] else ())

    return correct


def close_at(zone, close):
    def correct(day, times):
        return times[0], datetime.combine(day, time.fromisoformat(close), ZoneInfo(zone)).astimezone(UTC), ()

    return correct


# (name, first day, day after the last, how, why): what the announcements of an exchange say against the reference.
CORRECTIONS = [
    (
        "hong_kong",
        "2005-01-01",
        "2011-03-07",
        lunch("Asia/Hong_Kong", "12:30", "14:30"),
        "HKEX news release of 2010-11-23: until then 10:00-12:30 and 14:30-16:00",
    ),
    (
        "hong_kong",
        "2011-03-07",
        "2012-03-05",
        lunch("Asia/Hong_Kong", "12:00", "13:30"),
        "HKEX news releases of 2010-11-23 and 2012-03-01: lunch until 13:30",
    ),
    (
        "cme_equity_futures",
        "2018-12-05",
        "2018-12-06",
        close_at("America/Chicago", "08:30"),
        "CME Group announcement of 2018-12-02: mourning; one reference has a usual day, one none",
    ),
    (
        "cme_equity_futures",
        "2025-01-09",
        "2025-01-10",
        close_at("America/Chicago", "08:30"),
        "CME Group announcement of 2024-12-30: mourning; one reference has a usual day, one none",
    ),
    (
        "nyse",
        "1999-12-31",
        "2000-01-01",
        close_at("America/New_York", "13:00"),
        "closed at one on the last day of the century; the other reference has it",
    ),
    ("hong_kong", "2023-09-01", "2023-09-02", None, "closed for typhoon Saola; the other reference has it"),
    ("hong_kong", "2023-09-08", "2023-09-09", None, "closed for a rainstorm; the other reference has it"),
]

# What each calendar is made of: zone, days known, hours from a day on (open, close, breaks), and references.
# An open with a minus sign is on the day before.
VENUES = {
    "xetra": {
        "zone": "Europe/Berlin",
        "known": ("2010-01-01", "2028-01-01"),
        "hours": {"2010-01-01": ("09:00", "17:30", [])},
        "reference": ("exchange_calendars XETR", lambda *days: xc("XETR", *days)),
        "others": [("exchange_calendars XFRA", lambda *days: xc("XFRA", *days))],
    },
    "lse": {
        "zone": "Europe/London",
        "known": ("2001-01-01", "2028-01-01"),
        "hours": {"2001-01-01": ("08:00", "16:30", [])},
        "reference": ("exchange_calendars XLON", lambda *days: xc("XLON", *days)),
        "others": [("pandas_market_calendars LSE", lambda *days: pmc("LSE", *days))],
    },
    "sydney": {
        "zone": "Australia/Sydney",
        "known": ("2011-01-01", "2028-01-01"),
        "hours": {"2011-01-01": ("10:00", "16:00", [])},
        "reference": ("exchange_calendars XASX", lambda *days: xc("XASX", *days)),
        "others": [("pandas_market_calendars ASX", lambda *days: pmc("ASX", *days))],
    },
    "hong_kong": {
        "zone": "Asia/Hong_Kong",
        "known": ("2005-01-01", "2028-01-01"),
        "hours": {
            "2005-01-01": ("10:00", "16:00", [("12:30", "14:30")]),
            "2011-03-07": ("09:30", "16:00", [("12:00", "13:30")]),
            "2012-03-05": ("09:30", "16:00", [("12:00", "13:00")]),
        },
        "reference": ("exchange_calendars XHKG", lambda *days: xc("XHKG", *days)),
        "others": [("pandas_market_calendars HKEX", lambda *days: pmc("HKEX", *days))],
    },
    "tokyo": {
        "zone": "Asia/Tokyo",
        "known": ("2012-01-01", "2028-01-01"),
        "hours": {
            "2012-01-01": ("09:00", "15:00", [("11:30", "12:30")]),
            "2024-11-05": ("09:00", "15:30", [("11:30", "12:30")]),
        },
        "reference": ("exchange_calendars XTKS", lambda *days: xc("XTKS", *days)),
        "others": [("pandas_market_calendars JPX", lambda *days: pmc("JPX", *days))],
    },
    "cme_equity_futures": {
        "closing_auction": False,
        "zone": "America/Chicago",
        "known": ("2016-01-01", "2028-01-01"),
        "hours": {
            "2016-01-01": ("-17:00", "16:00", [("15:15", "15:30")]),
            "2021-06-28": ("-17:00", "16:00", []),
        },
        "reference": ("pandas_market_calendars CME Globex Equity, with the halts of CME_Equity", cme),
        "others": [
            ("pandas_market_calendars CME_Equity", lambda *days: pmc("CME_Equity", *days)),
            ("exchange_calendars CMES", lambda *days: xc("CMES", *days)),
        ],
    },
    "forex": {
        "closing_auction": False,
        "zone": "America/New_York",
        "known": ("2000-01-01", "2041-01-01"),
        "hours": {"2000-01-01": ("-17:00", "17:00", [])},
        "reference": ("pandas_market_calendars FOREX, Monday to Friday", forex),
        "others": [("pandas_market_calendars FOREX", lambda *days: pmc("FOREX", *days))],
    },
    # Rules in nyse.rs, checked only; the references know the days to the end of 2027.
    "nyse": {
        "known": ("1999-01-01", "2028-01-01"),
        "reference": ("pandas_market_calendars NYSE", nyse),
        "others": [("exchange_calendars XNYS", lambda *days: xc("XNYS", *days))],
    },
    "nasdaq": {
        "known": ("1999-01-01", "2028-01-01"),
        "reference": ("exchange_calendars XNYS", lambda *days: xc("XNYS", *days)),
        "others": [("pandas_market_calendars NASDAQ", lambda *days: pmc("NASDAQ", *days))],
    },
    "weekdays": {
        "known": ("2010-01-01", "2028-01-01"),
        "reference": ("exchange_calendars 24/5", lambda *days: xc("24/5", *days)),
        "others": [],
    },
    "always_open": {
        "known": ("2010-01-01", "2028-01-01"),
        "reference": ("exchange_calendars 24/7", lambda *days: xc("24/7", *days)),
        "others": [],
    },
}


def days_of(known):
    first, end = map(date.fromisoformat, known)
    return [first + timedelta(days=n) for n in range((end - first).days)]


def reference(name):
    """Sessions of the reference, with what is corrected, and how many sessions that changed."""
    venue = VENUES[name]
    sessions = venue["reference"][1](*venue["known"])
    corrected = 0
    for subject, first, end, correct, _ in CORRECTIONS:
        for day in [day for day in sessions if subject == name and first <= day.isoformat() < end]:
            before = sessions[day]
            if correct is None:
                del sessions[day]
            else:
                sessions[day] = correct(day, before)
            corrected += sessions.get(day) != before
    return sessions, corrected


def local(at, zone, day):
    """A time as the files have it: HH:MM, with a minus sign on the day before."""
    at = at.astimezone(ZoneInfo(zone))
    sign = {0: "", -1: "-"}[(at.date() - day).days]
    return sign + at.strftime("%H:%M")


def describe(name):
    """The calendar's fields, from its reference and its usual hours."""
    venue = VENUES[name]
    zone, known, table = venue["zone"], venue["known"], venue["hours"]
    sessions, _ = reference(name)
    weekend = [5, 6]
    closed, early, late = [], {}, {}
    for day in days_of(known):
        if day.weekday() in weekend:
            assert day not in sessions, f"{name}: a session on a weekend, {day}"
            continue
        if day not in sessions:
            closed.append(day.isoformat())
            continue
        since = max(start for start in table if start <= day.isoformat())
        open, close, breaks = table[since]
        found = [local(at, zone, day) for at in sessions[day][:2]]
        if found[0] != open:
            late[day.isoformat()] = found[0].lstrip("-")
        if found[1] != close:
            early[day.isoformat()] = found[1]
        expected = [pause for pause in breaks if pause[1] < found[1]]
        pauses = [tuple(local(at, zone, day) for at in pause) for pause in sessions[day][2]]
        assert pauses == expected, f"{name}: {day} has the breaks {pauses}, not {expected}"
    hours = {}
    for start, (open, close, breaks) in table.items():
        hours[start] = {"open": open.lstrip("-"), "close": close}
        if breaks:
            hours[start]["breaks"] = [list(pause) for pause in breaks]
        if open.startswith("-"):
            hours[start]["opens_day_before"] = True
    first = hours.pop(known[0])
    if not VENUES[name].get("closing_auction", True):
        first["closing_auction"] = False
    fields = {"name": name, "version": 1, "hours": "exchange", "zone": zone, "first": known[0], "end": known[1]}
    fields |= first | {"weekend": [WEEKDAYS[day] for day in weekend]}
    return fields | {
        key: value
        for key, value in {"changes": hours, "closed": closed, "early": early, "late": late}.items()
        if value
    }


def text(fields):
    """JSON with a line for each field, and for each year of days."""

    def years(value):
        rows = {}
        for item in value:
            shown = json.dumps(item) + (f": {json.dumps(value[item])}" if isinstance(value, dict) else "")
            rows.setdefault(item[:4], []).append(shown)
        braces = "{}" if isinstance(value, dict) else "[]"
        return braces[0] + "\n    " + ",\n    ".join(", ".join(row) for row in rows.values()) + "\n  " + braces[1]

    by_year = ("closed", "early", "late", "changes")
    lines = [f"{json.dumps(key)}: {years(value) if key in by_year else json.dumps(value)}" for key, value in fields.items()]
    return "{\n  " + ",\n  ".join(lines) + "\n}\n"


def generate(names):
    for name in names:
        if "hours" in VENUES[name]:
            path = FOLDER / f"{name}.json"
            path.write_text(text(describe(name)))
            print(f"{path.relative_to(REPOSITORY)}: {path.stat().st_size} bytes")


def ours(name):
    """Sessions as the library has them."""
    command = ["cargo", "run", "--quiet", "--example", "calendars", "--", name, *VENUES[name]["known"]]
    printed = subprocess.run(command, cwd=REPOSITORY, check=True, capture_output=True, text=True).stdout
    read = lambda at: datetime.fromisoformat(at.replace("Z", "+00:00"))  # noqa: E731
    found = {}
    for row in csv.DictReader(io.StringIO(printed)):
        breaks = tuple(tuple(map(read, pause.split("/"))) for pause in row["breaks"].split())
        found[date.fromisoformat(row["day"])] = (read(row["open"]), read(row["close"]), breaks)
    return found


def differences(found, expected):
    """Days that only one of both has, and sessions whose open, close or breaks differ."""
    both = found.keys() & expected.keys()
    return {
        "missing": sorted(expected.keys() - found.keys()),
        "more": sorted(found.keys() - expected.keys()),
        "open": sorted(day for day in both if found[day][0] != expected[day][0]),
        "close": sorted(day for day in both if found[day][1] != expected[day][1]),
        "breaks": sorted(day for day in both if found[day][2] != expected[day][2]),
    }


def show(times):
    """One session in a line."""
    if times is None:
        return "none"
    short = lambda at: at.strftime("%dT%H:%M")  # noqa: E731
    return f"{short(times[0])} {short(times[1])}" + "".join(f" but {short(a)} {short(b)}" for a, b in times[2])


def check(names):
    failed = 0
    for name in names:
        venue = VENUES[name]
        found = ours(name)
        expected, corrected = reference(name)
        differ = differences(found, expected)
        count = sum(map(len, differ.values()))
        failed += count
        print(
            f"{name}: {len(days_of(venue['known']))} days, {len(expected)} sessions, {count} differences"
            f" to {venue['reference'][0]}" + (f" ({corrected} sessions corrected)" if corrected else "")
        )
        for what, days in differ.items():
            for day in days:
                print(f"  {what} {day}: found {show(found.get(day))}, expected {show(expected.get(day))}")
        for other, sessions in venue["others"]:
            differ = {what: days for what, days in differences(found, sessions(*venue["known"])).items() if days}
            shown = [f"{what} {len(days)} ({days[0]} to {days[-1]})" for what, days in differ.items()]
            print(f"  {other}: " + (", ".join(shown) or "the same"))
    sys.exit(f"{failed} differences" if failed else 0)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", choices=["generate", "check"])
    parser.add_argument("names", nargs="*", help="calendars; all by default")
    args = parser.parse_args()
    for package, expected in PACKAGES.items():
        if version(package) != expected:
            sys.exit(f"{package} is {version(package)}; the data are of {expected}")
    {"generate": generate, "check": check}[args.command](args.names or list(VENUES))


if __name__ == "__main__":
    main()
