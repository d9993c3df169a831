"""Authorization: grants by pattern, the client's own subject, deny by default."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nexus_tw.model.errors import ConfigError, NexusError
from nexus_tw.model.names import Pattern, parse_pattern
from nexus_tw.model.policy import ACTIONS, ADMIN, MAX_SUBJECT, REMEMBERED, Action, Principal, check_roles, is_realm, is_subject
from nexus_tw.model.settings import Role


def holding(*grants: str, subject: str = "agent-1", action: Action = "subscribe") -> Principal:
    return Principal(subject, "some", msgspec.structs.replace(Role(), **{action: grants}))


def pattern(text: str) -> Pattern:
    return parse_pattern(text, "events")


@pytest.mark.parametrize("action", ACTIONS)
def test_an_empty_role_may_do_nothing(action: Action) -> None:
    nobody = Principal("nobody", "none", Role())
    assert not nobody.admin
    assert not nobody.allows(action, "task.updated")
    assert not nobody.covers(action, pattern("**"))


@pytest.mark.parametrize("action", ACTIONS)
def test_a_grant_is_for_its_own_action_only(action: Action) -> None:
    principal = holding("task.*", action=action)
    assert [each for each in ACTIONS if principal.allows(each, "task.updated")] == [action]


@pytest.mark.parametrize("action", ACTIONS)
def test_the_built_in_admin_may_do_everything(action: Action) -> None:
    admin = Principal("root", "admin", ADMIN)
    assert admin.admin
    assert admin.allows(action, "any.name.at-all")
    assert admin.covers(action, pattern("**"))


def test_to_administer_is_no_other_right() -> None:
    assert not Principal("ops", "ops", Role(admin=True)).allows("call", "deploy")


@pytest.mark.parametrize(
    ("grant", "allowed", "denied"),
    [
        ("task.updated", ["task.updated"], ["task", "task.updated.x", "Task.updated", "task.created"]),
        ("task.*", ["task.updated", "task.created"], ["task", "task.a.b", "tasks.updated"]),
        ("task.**", ["task.updated", "task.a.b"], ["task", "tasks.updated"]),
        ("*.updated", ["task.updated", "fleet.updated"], ["updated", "task.a.updated"]),
        ("*", ["task"], ["task.updated"]),
        ("**", ["task", "task.a.b"], []),
    ],
)
def test_a_name_is_allowed_where_a_grant_matches_it(grant: str, allowed: list[str], denied: list[str]) -> None:
    principal = holding(grant)
    for name in allowed:
        assert principal.allows("subscribe", name), name
    for name in denied:
        assert not principal.allows("subscribe", name), name


@pytest.mark.parametrize(
    ("grant", "covered", "not_covered"),
    [
        ("task.**", ["task.**", "task.*", "task.updated", "task.*.x", "task.a.**"], ["**", "*", "task", "*.updated", "*.**"]),
        ("task.*", ["task.*", "task.updated"], ["task.**", "task.*.*", "*.*"]),
        ("task.updated", ["task.updated"], ["task.*", "*.updated", "task.**"]),
        ("**", ["**", "*", "*.*", "a.**", "a"], []),
        ("*.updated", ["*.updated", "task.updated"], ["*.*", "**", "task.*"]),
    ],
)
def test_a_pattern_is_allowed_only_where_one_grant_covers_all_of_it(
    grant: str, covered: list[str], not_covered: list[str]
) -> None:
    principal = holding(grant)
    for text in covered:
        assert principal.covers("subscribe", pattern(text)), text
    for text in not_covered:
        assert not principal.covers("subscribe", pattern(text)), text


components = st.sampled_from(["a", "b", "c"])
names = st.lists(components, min_size=1, max_size=4).map(".".join)
patterns = st.tuples(st.lists(components | st.just("*"), max_size=3), st.booleans()).map(
    lambda parts: ".".join([*parts[0], *(["**"] if parts[1] or not parts[0] else [])])
)


@given(st.lists(patterns, max_size=3), patterns, names)
def test_what_a_covered_pattern_matches_is_allowed(grants: list[str], asked: str, name: str) -> None:
    """Property: a subscription never shows a name that could not be subscribed to by itself."""
    principal = holding(*grants)
    if principal.covers("subscribe", pattern(asked)) and pattern(asked).matches(name):
        assert principal.allows("subscribe", name)


@given(st.lists(patterns, max_size=3), st.lists(names, max_size=10))
def test_an_answer_is_the_same_every_time(grants: list[str], asked: list[str]) -> None:
    """Property: remembering answers changes none."""
    principal = holding(*grants)
    for name in [*asked, *asked]:
        assert principal.allows("subscribe", name) == any(pattern(grant).matches(name) for grant in grants)


def test_only_so_many_answers_are_remembered() -> None:
    principal = holding("n.*")
    for number in range(2 * REMEMBERED + 10):
        assert principal.allows("subscribe", f"n.{number}")
        assert len(principal._grants._answers) <= REMEMBERED


# --- {subject} ----------------------------------------------------------------------------------------------------------


def test_the_callers_own_subject_stands_where_the_grant_says_so() -> None:
    principal = holding("{subject}", "log.{subject}.**", "other", subject="fleet.agent-1")
    for name in ("fleet.agent-1", "log.fleet.agent-1.error", "other"):
        assert principal.allows("subscribe", name), name
    for name in ("fleet.agent-2", "{subject}", "log.{subject}.error", "log.fleet.agent-2.error", "fleet"):
        assert not principal.allows("subscribe", name), name


@pytest.mark.parametrize("subject", ["*", "**", "a.*", "a.**", "", ".", "a..b", "a b", "a#b", "a\n", "x" * 256])
def test_a_subject_that_is_no_name_gets_nothing_by_its_own_name(subject: str) -> None:
    principal = holding("{subject}", "log.{subject}", "plain", subject=subject)
    assert principal.allows("subscribe", "plain")
    assert not any(principal.allows("subscribe", name) for name in ("a", "a.b", "log.a", subject or "a"))


def test_a_subject_too_long_for_a_grant_around_it_is_no_error() -> None:
    principal = holding("{subject}", "log.{subject}", subject="x" * 255)
    assert principal.allows("subscribe", "x" * 255)
    assert not principal.allows("subscribe", "log." + "x" * 255)


def test_a_subject_that_looks_like_the_placeholder_is_not_replaced_again() -> None:
    principal = holding("{subject}", subject="{subject}")
    assert principal.allows("subscribe", "{subject}")
    assert not principal.allows("subscribe", "other")


@given(st.text(max_size=20), names)
def test_no_subject_reaches_beyond_its_own_name(subject: str, name: str) -> None:
    """Property: whatever a caller is called, a grant of `{subject}` is for that one name."""
    assert holding("{subject}", subject=subject).allows("subscribe", name) == (subject == name)


# --- refusals -----------------------------------------------------------------------------------------------------------


def test_a_refusal_says_what_was_asked_for() -> None:
    principal = holding("task.*")
    principal.require("subscribe", "task.updated")
    principal.require_cover("subscribe", pattern("task.*"))
    with pytest.raises(NexusError, match=r"\ANot allowed to subscribe to other\Z") as caught:
        principal.require("subscribe", "other")
    assert caught.value.code == "forbidden"
    with pytest.raises(NexusError, match=r"\ANot allowed to subscribe to \*\*\Z"):
        principal.require_cover("subscribe", pattern("**"))


@pytest.mark.parametrize("subject", ["a", "CN=John Doe", "ü", "x" * MAX_SUBJECT])
def test_printable_text_can_be_a_subject(subject: str) -> None:
    assert is_subject(subject)


@pytest.mark.parametrize("subject", ["", "x" * (MAX_SUBJECT + 1), "a\nb", "\x1b[31m", "\u202e", "\ud800", "\u2028"])
def test_nothing_else_can_as_it_is_written_into_logs(subject: str) -> None:
    assert not is_subject(subject)


def test_a_grant_that_is_no_pattern_is_named() -> None:
    check_roles({"agent": Role(subscribe=("task.**", "{subject}.**", "*"))})
    for wrong in ("task..updated", "task.**.x", "a*", "", "task updated", "#"):
        with pytest.raises(ConfigError, match=r"\Aroles\.agent\.call\[1\]: "):
            check_roles({"agent": Role(call=("fine", wrong))})


def test_a_role_that_cannot_be_named_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"\Aroles: "):
        check_roles({"a\nb": Role()})


def test_a_principal_shows_its_name_and_role_only() -> None:
    assert repr(holding("secret.**")) == "<Principal 'agent-1' with the role 'some'>"
    named = Principal("a", "some", expires=5)
    assert repr(named) == "<Principal 'a' with the role 'some' to be looked up until 5 s since the epoch>"


def test_a_principal_may_join_the_realms_of_its_role() -> None:
    assert [Principal("a", "some", Role()).may_join(realm) for realm in ("nexus", "realm1")] == [True, False]
    some = Principal("a", "some", Role(realms=("realm1", "realm2")))
    assert [some.may_join(realm) for realm in ("nexus", "realm1", "realm2", "realm", "*")] == [False, True, True, False, False]
    assert not Principal("a", "some", Role(realms=())).may_join("nexus")
    for everywhere in (ADMIN, Role(realms=("realm1", "*"))):
        assert Principal("a", "some", everywhere).may_join("realm2")


@pytest.mark.parametrize("name", ["nexus", "abc", "realm1", "com.example.Realm-1_a@b", "a" * 255, "wamp"])
def test_a_name_of_a_realm(name: str) -> None:
    assert is_realm(name)


@pytest.mark.parametrize("name", ["", "ab", "1realm", ".realm", "a b c", "realm\n", "réalm", "a" * 256, "wamp.x", "*", "a/b/c"])
def test_no_name_of_a_realm(name: str) -> None:
    assert not is_realm(name)


# --- what is the server's own


@pytest.mark.parametrize("action", ["subscribe", "publish", "call", "register"])
@pytest.mark.parametrize("name", ["wamp.session.kill_all", "wamp.session.on_join", "nexus.broadcast"])
def test_the_meta_api_is_granted_by_patterns_that_name_it_and_not_by_those_that_say_everything(
    action: Action, name: str
) -> None:
    first = name.partition(".")[0]

    def granted(*texts: str) -> tuple[bool, bool]:
        who = Principal("s", "r", Role(**{action: texts}))  # type: ignore[arg-type]
        return who.allows(action, name), who.covers(action, pattern(f"{first}.**"))

    assert granted("**") == granted("*.**") == granted("*.*.*") == (False, False)
    assert granted("**", f"{first}.**") == (True, True)
    assert granted(name) == (True, False)
    assert Principal("s", "r", ADMIN).allows(action, name), "an administrator may use it"


def test_who_is_granted_everything_may_ask_for_everything_and_is_not_given_the_meta_api_by_it() -> None:
    who = Principal("s", "r", Role(subscribe=("**",)))
    for wanted in (pattern("**"), pattern("*.**"), Pattern.prefixed(""), Pattern.prefixed("wam"), Pattern.wildcard("..")):
        assert who.covers("subscribe", wanted)
        assert not wanted.selects("wamp.session.on_join"), "the hub gives it none of these"
    for wanted in (Pattern.prefixed("wamp"), Pattern.prefixed("wamp."), Pattern.wildcard("wamp.."), Pattern.wildcard("wamp.a")):
        assert not who.covers("subscribe", wanted)


def test_ids_of_agents_are_nobodys_own() -> None:
    assert Principal("s", "r", Role(telemetry=("**",))).allows("telemetry", "nexus.one")


# --- whose it is


def test_one_subject_of_two_issuers_is_two_identities() -> None:
    sources = ["", "jwt:https://a.example/", "jwt:https://b.example/", "plugin:a"]
    made = [Principal("admin", "r", issuer=issuer) for issuer in sources]
    assert len({who.identity for who in made}) == len({who.account for who in made}) == len(sources)
    assert {who.subject for who in made} == {"admin"}


def test_who_gets_as_many_subjects_as_it_likes_has_one_account() -> None:
    made = [Principal(f"anonymous-{number}", "r", issuer="anonymous", account="anonymous 10.0.0.1") for number in range(2)]
    assert len({who.identity for who in made}) == 2 and {who.account for who in made} == {"anonymous 10.0.0.1"}
