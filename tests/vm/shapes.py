# SPDX-License-Identifier: BSD-3-Clause
"""Schemas as query-qmp-schema gives them: checking values, and comparing two of them.

Findings are (place, what): the place is a path such as "query-memory-devices[].data.size", without
indices, so that one entry of a table names all of them; what is one of

    "missing"     a member that has to be there is not
    "extra"       a member that should not be there is
    "type"        another type of JSON
    "optional"    one side may leave it out, the other may not
    "value NAME"  a value of an enumeration that is not known to the other side
    "feature NAME", "oob"
                  what a command says of itself differs

Types are compared by structure: their names mean nothing.
"""

JSON_TYPES = {
    "string": (str,),
    "int": (int,),
    "number": (int, float),
    "boolean": (bool,),
    "null": (type(None),),
    "value": (dict, list, str, int, float, bool, type(None)),
}
# What a command's features may say that is no promise to a client.
REMARKS = {"deprecated", "unstable"}


def json_type(value):
    if isinstance(value, bool):
        return "boolean"
    names = {str: "string", int: "int", float: "number", dict: "object", list: "array"}
    return names.get(type(value), "null")


class Schema:
    """The entities of one monitor, by name."""

    def __init__(self, infos):
        self.infos = {info["name"]: info for info in infos}
        assert len(self.infos) == len(infos), "names that are there twice"

    def names(self, meta):
        """Of all commands or events."""
        return {n for n, info in self.infos.items() if info["meta-type"] == meta}

    def command(self, name):
        info = self.infos.get(name)
        return info if info and info["meta-type"] == "command" else None

    def arguments(self, name):
        """The members of command NAME's arguments."""
        return self.infos[self.infos[name]["arg-type"]]["members"]

    def values(self, info):
        """Of an enumeration."""
        return {m["name"] for m in info["members"]} if "members" in info else set(info["values"])

    def kind(self, name):
        """What JSON a value of type NAME is: one of JSON_TYPES, "object", "array" or a set."""
        info = self.infos[name]
        meta = info["meta-type"]
        if meta == "builtin":
            return info["json-type"]
        if meta == "alternate":
            return frozenset(self.kind(m["type"]) for m in info["members"])
        return {"enum": "string"}.get(meta, meta)

    # Values.

    def check(self, value, name, place):
        """Findings on VALUE, which should be of type NAME."""
        info = self.infos[name]
        checks = {
            "builtin": self._check_builtin,
            "enum": self._check_enum,
            "array": self._check_array,
            "object": self._check_object,
            "alternate": self._check_alternate,
        }
        return list(checks[info["meta-type"]](value, info, place))

    def _check_builtin(self, value, info, place):
        allowed = JSON_TYPES[info["json-type"]]
        if isinstance(value, bool) and bool not in allowed or not isinstance(value, allowed):
            yield place, "type"

    def _check_enum(self, value, info, place):
        if not isinstance(value, str):
            yield place, "type"
        elif value not in self.values(info):
            yield place, f"value {value}"

    def _check_array(self, value, info, place):
        if not isinstance(value, list):
            yield place, "type"
            return
        for item in value:
            yield from self.check(item, info["element-type"], place + "[]")

    def _check_object(self, value, info, place):
        if not isinstance(value, dict):
            yield place, "type"
            return
        known = {m["name"]: m for m in info["members"]}
        if "tag" in info and info["tag"] in value:
            for variant in info["variants"]:
                if variant["case"] == value[info["tag"]]:
                    more = self.infos[variant["type"]]["members"]
                    known.update({m["name"]: m for m in more})
        for member in known.values():
            inner = f"{place}.{member['name']}"
            if member["name"] in value:
                yield from self.check(value[member["name"]], member["type"], inner)
            elif "default" not in member:
                yield inner, "missing"
        for member in value.keys() - known.keys():
            yield f"{place}.{member}", "extra"

    def _check_alternate(self, value, info, place):
        tries = [self.check(value, m["type"], place) for m in info["members"]]
        if all(tries):  # none without findings
            yield from min(tries, key=len)


class Comparison:
    """OURS against THEIRS. With TAKES the types are those of arguments: what they take we take;
    else of what is given: what they promise we give."""

    def __init__(self, ours, theirs, takes):
        self.ours, self.theirs, self.takes = ours, theirs, takes
        self._seen = set()

    def types(self, our_name, their_name, place):
        """Findings on two types."""
        if (our_name, their_name) in self._seen:
            return
        self._seen.add((our_name, their_name))
        our_kind, their_kind = self.ours.kind(our_name), self.theirs.kind(their_name)
        our_info, their_info = self.ours.infos[our_name], self.theirs.infos[their_name]
        if our_kind != their_kind:
            yield place, "type"
        elif our_kind == "array":
            pair = our_info["element-type"], their_info["element-type"]
            yield from self.types(*pair, place + "[]")
        elif our_kind == "object":
            yield from self._objects(our_info, their_info, place)
        elif our_kind == "string":
            yield from self._strings(our_info, their_info, place)
        elif isinstance(our_kind, frozenset):
            yield from self._alternates(our_info, their_info, place)

    def _strings(self, our_info, their_info, place):
        if their_info["meta-type"] != our_info["meta-type"]:
            yield place, "type"
        elif our_info["meta-type"] == "enum":
            for value in self.ours.values(our_info) - self.theirs.values(their_info):
                yield place, f"value {value}"

    def _alternates(self, our_info, their_info, place):
        theirs = {self.theirs.kind(m["type"]): m["type"] for m in their_info["members"]}
        for member in our_info["members"]:
            other = theirs[self.ours.kind(member["type"])]
            yield from self.types(member["type"], other, place)

    def _objects(self, our_info, their_info, place):
        ours = {m["name"]: m for m in our_info["members"]}
        theirs = {m["name"]: m for m in their_info["members"]}
        for name in ours.keys() - theirs.keys():
            yield f"{place}.{name}", "extra"
        for name, member in theirs.items():
            inner = f"{place}.{name}"
            if name not in ours:
                if self.takes or "default" not in member:
                    yield inner, "missing"
                continue
            may, they_may = "default" in ours[name], "default" in member
            if may != they_may and (self.takes or may):
                yield inner, "optional"
            yield from self.types(ours[name]["type"], member["type"], inner)
        yield from self._variants(our_info, their_info, place)

    def _variants(self, our_info, their_info, place):
        ours = {v["case"]: v["type"] for v in our_info.get("variants", [])}
        theirs = {v["case"]: v["type"] for v in their_info.get("variants", [])}
        if bool(ours) != bool(theirs) or our_info.get("tag") != their_info.get("tag"):
            yield place, "type"
            return
        for case in ours.keys() & theirs.keys():
            yield from self.types(ours[case], theirs[case], place)


def compare_command(ours, theirs, name):
    """Findings on what both say of command NAME."""
    our, their = ours.infos[name], theirs.infos[name]
    found = list(Comparison(ours, theirs, True).types(our["arg-type"], their["arg-type"], name))
    place = f"{name} gives"
    found += Comparison(ours, theirs, False).types(our["ret-type"], their["ret-type"], place)
    if our.get("allow-oob", False) != their.get("allow-oob", False):
        found.append((name, "oob"))
    features = set(our.get("features", [])) ^ set(their.get("features", []))
    found += [(name, f"feature {feature}") for feature in features - REMARKS]
    return found


def compare_event(ours, theirs, name):
    """Findings on what both say of event NAME."""
    pair = ours.infos[name]["arg-type"], theirs.infos[name]["arg-type"]
    return list(Comparison(ours, theirs, False).types(*pair, name))


def members_of(value, place, found=None):
    """{place: set of JSON types} of all members inside VALUE."""
    found = {} if found is None else found
    found.setdefault(place, set()).add(json_type(value))
    if isinstance(value, dict):
        for name, member in value.items():
            members_of(member, f"{place}.{name}", found)
    elif isinstance(value, list):
        for item in value:
            members_of(item, place + "[]", found)
    return found


def compare_values(ours, theirs, place):
    """Members that THEIRS has and OURS has not, though it has what they are in."""
    our_members, their_members = members_of(ours, place), members_of(theirs, place)
    for member, types in their_members.items():
        parent, _, name = member.rpartition(".")
        if member in our_members:
            if not our_members[member] & types:
                yield member, "type"
        elif not name.endswith("[]") and parent in our_members:
            yield member, "missing"
