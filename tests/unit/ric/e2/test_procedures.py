"""E2AP's procedures as the RIC sees them, without a socket or a clock."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ric.e2.causes import CAUSES, cause_of
from ric.e2.effects import (
    Answered,
    ConfigurationChanged,
    Effect,
    FunctionsChanged,
    Indicated,
    NodeReady,
    NodeReset,
    Refused,
    RicIdentity,
    Send,
)  # fmt: skip
from ric.e2.identities import NodeIdentity, RanFunction, RicRequestId
from ric.e2.procedures import NodeProcedures
from ric.errors import TwinRicError
from ric.pb.twinric.e2ap.v1 import e2ap_pb2 as pb

KPM = RanFunction(2, "1.3.6.1.4.1.53148.1.3.2.2")
CCC = RanFunction(4, "1.3.6.1.4.1.53148.1.1.2.4")
FAULT = TwinRicError("E2-RANGE", "ratio", 130, "0..100")


def setup_request(**changes: object) -> pb.E2SetupRequest:
    content = {
        "global_e2_node_id": NodeIdentity("00101", 0xE2000001).to_wire(),
        "ran_functions": [KPM.to_wire(), CCC.to_wire()],
        "keep_alive_ms": 1_000,
    }
    return pb.E2SetupRequest(**(content | changes))


def feed(node: NodeProcedures, now_s: float = 0.0, **content: object) -> list[Effect]:
    return node.receive(pb.E2apPdu(transaction_id=9, **content).SerializeToString(), now_s)


def connected() -> NodeProcedures:
    node = NodeProcedures(RicIdentity(), 0.0)
    feed(node, e2_setup_request=setup_request())
    return node


def sent(effects: list[Effect]) -> list[pb.E2apPdu]:
    return [effect.pdu for effect in effects if isinstance(effect, Send)]


def kinds(effects: list[Effect]) -> list[type]:
    return [type(effect) for effect in effects]


# E2 Setup


def test_setup_accepted_answers_before_the_node_counts_as_ready() -> None:
    node = NodeProcedures(RicIdentity("00102", 77), 0.0)
    effects = feed(node, e2_setup_request=setup_request(component_configuration={"gNB-DU": b"x"}))
    assert kinds(effects) == [Send, NodeReady]
    response = sent(effects)[0].e2_setup_response
    assert sent(effects)[0].transaction_id == 9
    assert (response.ric_id, response.plmn_id, list(response.accepted_ran_function_ids)) == (77, "00102", [2, 4])
    assert node.view is not None
    assert node.view.function_of(CCC.oid) == CCC
    assert node.components == {"gNB-DU": b"x"}


def test_setup_with_a_bad_function_keeps_the_node_and_says_which() -> None:
    node = NodeProcedures(RicIdentity(), 0.0)
    effects = feed(node, e2_setup_request=setup_request(ran_functions=[KPM.to_wire(), RanFunction(9, "?").to_wire()]))
    response = sent(effects)[0].e2_setup_response
    assert list(response.accepted_ran_function_ids) == [2]
    assert response.rejected_ran_functions[9].field == "ran_functions[1].oid"
    assert kinds(effects) == [Send, Refused, NodeReady]


@pytest.mark.parametrize(
    "changes",
    [
        {"global_e2_node_id": pb.GlobalE2NodeId(plmn_id="1", gnb_id=1)},
        {"keep_alive_ms": 5},
        {"ran_functions": [KPM.to_wire(), KPM.to_wire()]},
    ],
    ids=["PLMN", "keep-alive", "function twice"],
)
def test_setup_out_of_range_fails_with_a_typed_cause_and_may_be_tried_again(changes: dict[str, object]) -> None:
    node = NodeProcedures(RicIdentity(), 0.0)
    effects = feed(node, e2_setup_request=setup_request(**changes))
    failure = sent(effects)[0].e2_setup_failure
    assert failure.cause.value in CAUSES["ric"]
    assert failure.cause.field
    assert failure.cause.accepted
    assert node.view is None
    assert NodeReady in kinds(feed(node, e2_setup_request=setup_request()))


def test_setup_a_second_time_is_an_error_of_state() -> None:
    (refused, answer) = feed(connected(), e2_setup_request=setup_request())
    assert isinstance(refused, Refused)
    assert isinstance(answer, Send)
    assert answer.pdu.error_indication.cause.value == "message-not-compatible-with-receiver-state"


def test_anything_before_setup_is_an_error_of_state() -> None:
    effects = feed(NodeProcedures(RicIdentity(), 0.0), keep_alive=pb.KeepAlive())
    assert sent(effects)[0].error_indication.cause.value == "message-not-compatible-with-receiver-state"


def test_requests_before_setup_are_refused() -> None:
    with pytest.raises(TwinRicError, match="E2-STATE"):
        NodeProcedures(RicIdentity(), 0.0).request_control(4, "c", b"", b"")


# Fuzzing


@given(st.binary(max_size=300))
def test_receive_any_octets_gives_effects_and_typed_causes(octets: bytes) -> None:
    node = connected()
    node.request_control(4, "c", b"", b"")
    node.request_subscription(2, b"", [])
    for effect in node.receive(octets, 1.0):
        if isinstance(effect, Send) and effect.pdu.HasField("error_indication"):
            cause = effect.pdu.error_indication.cause
            group = pb.CauseGroup.Name(cause.group).removeprefix("CAUSE_GROUP_").lower()
            assert cause.value in CAUSES[group]


_ids = st.integers(0, 2**32 - 1)
_requests = st.builds(lambda a, b: pb.RicRequestId(requestor_id=a, instance_id=b), st.integers(0, 3), st.integers(0, 3))
_causes = st.builds(pb.Cause, value=st.text(max_size=8), field=st.text(max_size=8))
_answers = st.one_of(
    st.builds(lambda r, f, o: {"ric_control_acknowledge": pb.RicControlAcknowledge(ric_request_id=r, ran_function_id=f,
              call_process_id="c", outcome=o)}, _requests, st.sampled_from([2, 4]), st.binary(max_size=8)),
    st.builds(lambda r, f, c: {"ric_control_failure": pb.RicControlFailure(ric_request_id=r, ran_function_id=f,
              cause=c)}, _requests, st.sampled_from([2, 4]), _causes),
    st.builds(lambda r, f: {"ric_subscription_response": pb.RicSubscriptionResponse(ric_request_id=r,
              ran_function_id=f, admitted_action_ids=[0])}, _requests, st.sampled_from([2, 4])),
    st.builds(lambda r: {"ric_subscription_failure": pb.RicSubscriptionFailure(ric_request_id=r,
              ran_function_id=2)}, _requests),
    st.builds(lambda r, f: {"ric_indication": pb.RicIndication(ric_request_id=r, ran_function_id=f)}, _requests,
              st.sampled_from([2, 4])),
    st.builds(lambda r: {"error_indication": pb.ErrorIndication(ric_request_id=r)}, _requests),
    st.builds(lambda c: {"reset_request": pb.ResetRequest(cause=c)}, _causes),
    st.just({"reset_response": pb.ResetResponse()}),
)  # fmt: skip


@given(st.lists(_answers, max_size=12))
def test_receive_any_valid_answers_ends_each_request_at_most_once(answers: list[dict[str, object]]) -> None:
    node = connected()
    node.request_control(4, "c", b"", b"")
    node.request_subscription(2, b"", [])
    ended = [
        effect.key
        for answer in answers
        for effect in feed(node, **answer)
        if isinstance(effect, Answered) and effect.key[0] != "delete"  # a late admission is deleted whenever it comes
    ]  # fmt: skip
    assert len(ended) == len(set(ended))


def test_error_indication_is_never_answered_by_another() -> None:
    node = NodeProcedures(RicIdentity(), 0.0)
    assert sent(feed(node, error_indication=pb.ErrorIndication(cause=cause_of(FAULT)))) == []
    assert sent(feed(connected(), error_indication=pb.ErrorIndication(cause=cause_of(FAULT)))) == []


def test_pdu_of_the_wrong_direction_is_an_error_of_state() -> None:
    effects = feed(connected(), ric_control_request=pb.RicControlRequest())
    assert sent(effects)[0].error_indication.cause.field == "e2ap_pdu"


def test_transaction_id_out_of_range_is_named() -> None:
    octets = pb.E2apPdu(transaction_id=256, keep_alive=pb.KeepAlive()).SerializeToString()
    assert sent(connected().receive(octets, 0.0))[0].error_indication.cause.accepted == "0..255"


# Control


def test_control_acknowledge_carries_the_outcome() -> None:
    node = connected()
    key, pdu = node.request_control(4, "call", b"h", b"m")
    acknowledge = pb.RicControlAcknowledge(
        ric_request_id=pdu.ric_control_request.ric_request_id, ran_function_id=4, call_process_id="call", outcome=b"now"
    )
    assert feed(node, ric_control_acknowledge=acknowledge) == [Answered(key, b"now")]


def test_control_failure_becomes_an_error_with_field_and_range() -> None:
    node = connected()
    key, pdu = node.request_control(4, "call", b"h", b"m")
    failure = pb.RicControlFailure(
        ric_request_id=pdu.ric_control_request.ric_request_id, ran_function_id=4, cause=cause_of(FAULT)
    )
    (answered,) = feed(node, ric_control_failure=failure)
    assert isinstance(answered, Answered)
    assert answered.key == key
    assert isinstance(answered.result, TwinRicError)
    fault = answered.result.faults[0]
    assert (fault.code, fault.field, fault.accepted) == ("E2-RANGE", "ratio", "0..100")


def test_control_answer_after_the_deadline_is_no_error() -> None:
    node = connected()
    key, pdu = node.request_control(4, "call", b"h", b"m")
    node.forget(key)
    late = pb.RicControlAcknowledge(ric_request_id=pdu.ric_control_request.ric_request_id, ran_function_id=4)
    assert feed(node, ric_control_acknowledge=late) == []


def test_control_answer_that_was_never_asked_for_is_refused() -> None:
    never = pb.RicControlAcknowledge(ric_request_id=pb.RicRequestId(requestor_id=2, instance_id=99))
    effects = feed(connected(), ric_control_acknowledge=never)
    assert sent(effects)[0].error_indication.cause.value == "request-id-unknown"


def test_control_acknowledge_of_another_call_is_refused() -> None:
    node = connected()
    _, pdu = node.request_control(4, "mine", b"h", b"m")
    wrong = pb.RicControlAcknowledge(
        ric_request_id=pdu.ric_control_request.ric_request_id, ran_function_id=4, call_process_id="theirs"
    )
    (answered, _) = feed(node, ric_control_acknowledge=wrong)
    assert isinstance(answered, Answered)
    assert isinstance(answered.result, TwinRicError)


def test_error_indication_with_a_request_id_ends_that_request() -> None:
    node = connected()
    key, pdu = node.request_control(4, "call", b"h", b"m")
    report = pb.ErrorIndication(ric_request_id=pdu.ric_control_request.ric_request_id, cause=cause_of(FAULT))
    effects = feed(node, error_indication=report)
    assert [effect.key for effect in effects if isinstance(effect, Answered)] == [key]


def test_request_ids_wrap_at_16_bits_and_skip_those_in_use() -> None:
    node = connected()
    kept, _ = node.request_control(4, "kept", b"", b"")
    seen = set()
    for _ in range(65_535):
        key, _ = node.request_control(4, "c", b"", b"")
        seen.add(key[1].instance_id)
        node.forget(key)
    again, _ = node.request_control(4, "c", b"", b"")
    assert max(seen) == 65_535
    assert kept[1] not in {RicRequestId(2, number) for number in seen}
    assert again[1] != kept[1]


# Subscriptions


def subscribed(node: NodeProcedures) -> RicRequestId:
    key, pdu = node.request_subscription(2, b"t", [pb.RicAction(ric_action_id=1)])
    response = pb.RicSubscriptionResponse(
        ric_request_id=pdu.ric_subscription_request.ric_request_id, ran_function_id=2, admitted_action_ids=[1]
    )
    (answered,) = feed(node, ric_subscription_response=response)
    assert isinstance(answered, Answered)
    return key[1]


def indication(request: RicRequestId, ran_function_id: int = 2) -> pb.RicIndication:
    return pb.RicIndication(ric_request_id=request.to_wire(), ran_function_id=ran_function_id, message=b"m")


def test_indication_of_an_open_subscription_is_handed_on() -> None:
    node = connected()
    request = subscribed(node)
    (effect,) = feed(node, ric_indication=indication(request))
    assert isinstance(effect, Indicated)
    assert (effect.request, effect.indication.message) == (request, b"m")


def numbered(node: NodeProcedures, request: RicRequestId, *numbers: int) -> list[list[str]]:
    """Kinds of the effects of indications with these sequence numbers."""
    kinds = []
    for number in numbers:
        message = indication(request)
        message.indication_sn = number
        kinds.append([type(effect).__name__ for effect in feed(node, ric_indication=message)])
    return kinds


@pytest.mark.parametrize(
    ("numbers", "expected"),
    [
        ((0, 1, 2), [["Indicated"]] * 3),
        ((0, 0, 0), [["Indicated"]] * 3),
        ((7, 8, 8, 7, 9), [["Indicated"], ["Indicated"], ["Refused"], ["Refused"], ["Indicated"]]),
        ((0, 1, 5), [["Indicated"], ["Indicated"], ["Missed", "Indicated"]]),
        ((65_534, 65_535, 0, 1), [["Indicated"]] * 4),
        ((65_535, 2), [["Indicated"], ["Missed", "Indicated"]]),
    ],
    ids=["in order", "not numbered", "duplicate and replay", "gap", "wrap", "gap over the wrap"],
)
def test_indication_numbers_tell_duplicates_and_gaps(numbers: tuple[int, ...], expected: list[list[str]]) -> None:
    node = connected()
    assert numbered(node, subscribed(node), *numbers) == expected


def test_indication_numbers_start_anew_with_each_subscription() -> None:
    node = connected()
    first, second = subscribed(node), subscribed(node)
    assert numbered(node, first, 5, 6) == numbered(node, second, 5, 6)


@given(st.lists(st.integers(0, 65_535), max_size=30))
def test_indication_that_was_handed_on_is_never_handed_on_again(numbers: list[int]) -> None:
    node = connected()
    request = subscribed(node)
    passed = [
        n for n, kinds in zip(numbers, numbered(node, request, *numbers), strict=True) if kinds[-1] == "Indicated"
    ]
    assert all(earlier != later or earlier == 0 for earlier, later in itertools.pairwise(passed))


def test_indication_of_an_unknown_subscription_is_refused() -> None:
    effects = feed(connected(), ric_indication=indication(RicRequestId(1, 500)))
    assert sent(effects)[0].error_indication.cause.value == "request-id-unknown"


def test_indication_of_another_function_is_refused() -> None:
    node = connected()
    effects = feed(node, ric_indication=indication(subscribed(node), ran_function_id=4))
    assert sent(effects)[0].error_indication.cause.field == "ran_function_id"


def test_indication_after_the_delete_is_ignored() -> None:
    node = connected()
    request = subscribed(node)
    key, _ = node.request_delete(request)
    assert feed(node, ric_indication=indication(request)) == []
    response = pb.RicSubscriptionDeleteResponse(ric_request_id=request.to_wire(), ran_function_id=2)
    assert feed(node, ric_subscription_delete_response=response) == [Answered(key, None)]


def test_subscription_without_any_admitted_action_is_a_refusal() -> None:
    node = connected()
    key, pdu = node.request_subscription(2, b"t", [pb.RicAction(ric_action_id=1)])
    request = pdu.ric_subscription_request.ric_request_id
    response = pb.RicSubscriptionResponse(ric_request_id=request, ran_function_id=2)
    response.not_admitted_actions[1].CopyFrom(cause_of(TwinRicError("E2-ACTION", "actions", 1, "0")))
    (answered,) = feed(node, ric_subscription_response=response)
    assert isinstance(answered, Answered)
    assert isinstance(answered.result, TwinRicError)
    assert answered.result.code == "E2-ACTION"
    assert sent(feed(node, ric_indication=indication(key[1])))  # it never came into force


def test_subscription_admitted_after_its_deadline_is_taken_back() -> None:
    node = connected()
    key, pdu = node.request_subscription(2, b"t", [pb.RicAction(ric_action_id=1)])
    node.forget(key)
    request = pdu.ric_subscription_request.ric_request_id
    response = pb.RicSubscriptionResponse(ric_request_id=request, ran_function_id=2, admitted_action_ids=[1])
    (deletion,) = sent(feed(node, ric_subscription_response=response))
    assert deletion.ric_subscription_delete_request.ric_request_id == request


def test_delete_of_what_is_not_open_is_refused() -> None:
    with pytest.raises(TwinRicError, match="E2-REQUEST-UNKNOWN"):
        connected().request_delete(RicRequestId(1, 1))


# Service update, configuration update, reset, keep-alive


def test_service_update_adds_changes_and_deletes() -> None:
    node = connected()
    grid = RanFunction(100, "1.3.6.1.4.1.53148.1.99.2.1")
    newer = RanFunction(2, KPM.oid, revision=2)
    update = pb.RicServiceUpdate(added=[grid.to_wire()], modified=[newer.to_wire()], deleted=[4])
    effects = feed(node, ric_service_update=update)
    assert kinds(effects) == [Send, FunctionsChanged]
    assert list(sent(effects)[0].ric_service_update_acknowledge.accepted_ran_function_ids) == [100, 2]
    assert node.view is not None
    assert set(node.view.functions) == {grid, newer}


def test_service_update_of_an_unknown_function_changes_nothing() -> None:
    node = connected()
    before = node.view
    effects = feed(node, ric_service_update=pb.RicServiceUpdate(deleted=[2, 55]))
    assert sent(effects)[0].ric_service_update_failure.cause.value == "ran-function-id-invalid"
    assert node.view == before


def test_service_query_names_what_the_ric_has_accepted() -> None:
    assert list(connected().request_query().ric_service_query.accepted_ran_function_ids) == [2, 4]


def test_configuration_update_is_acknowledged_by_name() -> None:
    node = connected()
    update = pb.E2NodeConfigurationUpdate(component_configuration={"b": b"2", "a": b"1"})
    effects = feed(node, e2_node_configuration_update=update)
    assert list(sent(effects)[0].e2_node_configuration_update_acknowledge.accepted_components) == ["a", "b"]
    assert effects[1] == ConfigurationChanged({"a": b"1", "b": b"2"})


def test_configuration_update_without_components_fails() -> None:
    effects = feed(connected(), e2_node_configuration_update=pb.E2NodeConfigurationUpdate())
    assert sent(effects)[0].HasField("e2_node_configuration_update_failure")


def test_reset_by_the_node_ends_requests_and_forgets_subscriptions() -> None:
    node = connected()
    request = subscribed(node)
    key, _ = node.request_control(4, "call", b"", b"")
    effects = feed(node, reset_request=pb.ResetRequest(cause=cause_of(FAULT)))
    assert sent(effects)[0].HasField("reset_response")
    assert [effect.key for effect in effects if isinstance(effect, Answered)] == [key]
    assert kinds(effects)[-1] is NodeReset
    assert feed(node, ric_indication=indication(request)) == []


def test_reset_by_the_ric_is_answered_by_its_transaction() -> None:
    node = connected()
    subscribed(node)
    key, pdu = node.request_reset(FAULT)
    answer = pb.E2apPdu(transaction_id=pdu.transaction_id, reset_response=pb.ResetResponse())
    assert node.receive(answer.SerializeToString(), 0.0) == [Answered(key, None)]


def test_keep_alive_is_echoed_and_counts_from_the_last_pdu() -> None:
    node = connected()
    assert node.silent_after_s == pytest.approx(2.0)
    assert sent(feed(node, now_s=5.0, keep_alive=pb.KeepAlive()))[0].HasField("keep_alive")
    assert node.silent_after_s == pytest.approx(7.0)
    node.forgive(1.5)
    assert node.silent_after_s == pytest.approx(8.5)
