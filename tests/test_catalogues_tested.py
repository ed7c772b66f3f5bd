"""Every code of the catalogues is given by the server and expected by a test: one that nothing uses goes.

A row names the test that has the server say it, over a socket or over HTTP.
"""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from protocol.close_codes import CloseCode
from protocol.errors import ErrorCode
from server.refusals import DURABLE, ERROR_OF
from storage.rows import VerdictCode

TESTS = Path(__file__).parent

EXPECTED_BY: dict[ErrorCode | CloseCode, str] = {
    ErrorCode.MALFORMED: "adversity/test_bad_input.py::test_nonsense_is_answered_and_the_session_goes_on",
    ErrorCode.UNKNOWN_COMMAND: "adversity/test_bad_input.py::test_nonsense_is_answered_and_the_session_goes_on",
    ErrorCode.WRONG_STATE: "server/test_conversation.py::test_commands_out_of_their_state_are_refused",
    ErrorCode.INVALID_ARGUMENT: (
        "server/api/test_people.py::test_a_profile_that_cannot_be_is_refused_and_nothing_changes"
    ),
    ErrorCode.TOO_LARGE: "server/api/test_sign_in.py::test_a_body_that_is_too_large_is_refused",
    ErrorCode.TOKEN_INVALID: "server/session/test_session.py::test_an_invalid_token_closes",
    ErrorCode.TOKEN_EXPIRED: "server/identity/test_tokens.py::test_a_cached_token_does_not_outlive_itself",
    ErrorCode.SIGNED_OUT: "server/session/test_session.py::test_who_was_signed_out_takes_no_device_over",
    ErrorCode.SUSPENDED: "server/api/test_people.py::test_an_admin_suspends_and_reinstates",
    ErrorCode.WRONG_PERSON: "server/session/test_session.py::test_a_session_never_changes_its_person",
    ErrorCode.CODE_WRONG: "server/api/test_sign_in.py::test_a_wrong_code_is_refused_and_the_right_one_then_works",
    ErrorCode.NOT_ALLOWED: "server/api/test_people.py::test_administration_is_for_admins",
    ErrorCode.DIALOG_NOT_FOUND: "server/test_conversation.py::test_strangers_learn_nothing",
    ErrorCode.PRINCIPAL_NOT_FOUND: "server/test_refusals.py::test_every_refused_change_says_why",
    ErrorCode.EVENT_NOT_FOUND: "adversity/test_bad_input.py::test_what_is_anothers_stays_theirs",
    ErrorCode.ROLE_REQUIRED: "server/test_refusals.py::test_every_refused_change_says_why",
    ErrorCode.BLOCKED: "server/test_refusals.py::test_every_refused_change_says_why",
    ErrorCode.MEMBERS_BOUND: "server/test_refusals.py::test_every_refused_change_says_why",
    ErrorCode.ALREADY_MEMBER: "server/test_refusals.py::test_every_refused_change_says_why",
    ErrorCode.NOT_MEMBER: "server/test_refusals.py::test_every_refused_change_says_why",
    ErrorCode.LAST_ADMIN: "server/test_refusals.py::test_every_refused_change_says_why",
    ErrorCode.FIXED_ROSTER: "server/test_refusals.py::test_every_refused_change_says_why",
    ErrorCode.CONSENT_REQUIRED: "server/test_consent.py::test_a_stranger_is_invited_instead_of_added_and_accepts",
    ErrorCode.SIGNATURE_REQUIRED: (
        "server/test_refusals.py::test_nobody_comes_to_read_a_sealed_group_without_a_signature"
    ),
    ErrorCode.INVITATIONS_BOUND: "server/test_consent.py::test_the_open_invitations_of_one_person_are_bounded",
    ErrorCode.DIALOGS_BOUND: "server/test_consent.py::test_a_person_cannot_be_in_more_dialogs_than_is_set",
    ErrorCode.DAILY_LIMIT: "server/test_consent.py::test_a_day_has_a_bounded_number_of_direct_dialogs",
    ErrorCode.CONFLICT: "adversity/test_bad_input.py::test_one_number_carries_one_message",
    ErrorCode.NUMBER_PASSED: "adversity/test_bad_input.py::test_one_number_carries_one_message",
    ErrorCode.STALE: "server/session/test_answers.py::test_a_stale_refusal_names_the_keys_seq_to_send_with",
    ErrorCode.EARLIER_FIRST: (
        "server/session/test_answers.py::test_a_refused_number_is_given_up_on_the_same_connection"
    ),
    ErrorCode.KEYS_REFUSED: "server/session/commands/test_keys.py::test_what_no_client_could_believe_is_refused",
    ErrorCode.KEYS_PASSED: "server/session/commands/test_keys.py::test_a_copied_store_and_too_many_keys_are_refused",
    ErrorCode.KEYS_BOUND: "server/session/commands/test_keys.py::test_a_copied_store_and_too_many_keys_are_refused",
    ErrorCode.KEYS_MISSING: (
        "server/session/commands/test_keys.py::test_a_device_claims_a_key_that_another_has_uploaded"
    ),
    ErrorCode.LOG_PASSED: (
        "server/session/commands/test_keys.py::test_an_entry_that_is_not_signed_or_comes_too_late_is_refused"
    ),
    ErrorCode.MESSAGES_BOUND: "server/session/commands/test_device_messages.py::test_a_refused_message_says_why",
    ErrorCode.REPORT_REFUSED: (
        "server/session/commands/test_reports.py::test_what_the_author_did_not_commit_to_is_refused"
    ),
    ErrorCode.REPORTS_OFF: "server/session/commands/test_reports.py::test_without_a_moderators_key_reports_are_off",
    ErrorCode.RECORD_NOT_FOUND: (
        "server/commerce/personal/test_addresses.py::test_an_address_is_stored_read_replaced_and_deleted"
    ),
    ErrorCode.RECORDS_BOUND: "server/commerce/personal/test_addresses.py::test_a_person_keeps_a_bounded_number",
    ErrorCode.ERASURE_REFUSED: ("server/commerce/personal/test_erasures.py::test_a_refusal_is_final_for_its_key"),
    ErrorCode.PERSON_ERASED: "server/commerce/personal/test_erasures.py::test_who_is_erased_stores_nothing_more",
    ErrorCode.BACKUP_BOUND: "server/session/commands/test_backups.py::test_a_refused_value_says_why",
    ErrorCode.INSUFFICIENT: "server/commerce/test_payment_steps.py::test_a_refusal_is_final_for_its_key",
    ErrorCode.OVER_LIMIT: "server/commerce/test_platform_terms.py::test_limits_hold_for_a_person_over_all_currencies",
    ErrorCode.CHANGED: "server/commerce/test_payment_steps.py::test_a_request_is_approved_as_it_was_seen_and_paid",
    ErrorCode.PROOF_REQUIRED: (
        "server/commerce/test_payment_steps.py::test_above_a_bound_a_person_pays_only_with_a_signature_of_their_device"
    ),
    ErrorCode.PAYMENT_NOT_FOUND: "server/commerce/test_payment_steps.py::test_strangers_learn_nothing",
    ErrorCode.PAYMENT_STATE: "server/commerce/test_bad_money.py::test_a_request_ends_once",
    ErrorCode.PAYMENT_EXPIRED: (
        "server/commerce/test_bad_money.py::test_a_hold_is_captured_once_and_never_above_nor_late_nor_after_its_end"
    ),
    ErrorCode.AMOUNT_REFUSED: (
        "server/commerce/test_payment_steps.py::test_a_send_is_captured_by_the_payee_and_refunded"
    ),
    ErrorCode.CURRENCY_REFUSED: (
        "server/commerce/test_chains.py::test_a_chain_of_two_currencies_or_to_itself_is_refused"
    ),
    ErrorCode.OWN_PAYEE: "server/commerce/test_bad_money.py::test_nobody_pays_themselves",
    ErrorCode.WALLET_NOT_FOUND: "server/commerce/test_chains.py::test_a_service_takes_only_from_its_businesses",
    ErrorCode.WALLET_CLOSED: "server/commerce/test_payment_steps.py::test_a_wallet_that_is_suspended_takes_no_part",
    ErrorCode.QUOTE_REFUSED: "server/commerce/test_chains.py::test_an_exchange_uses_its_quote_once",
    ErrorCode.KEY_REUSED: "server/commerce/test_payment_steps.py::test_a_key_with_another_request_is_refused",
    ErrorCode.BUSINESS_NOT_FOUND: "server/commerce/test_catalogue_keeping.py::test_strangers_learn_nothing_of_a_shop",
    ErrorCode.PRODUCT_NOT_FOUND: "server/commerce/test_catalogue_keeping.py::test_strangers_learn_nothing_of_a_shop",
    ErrorCode.ORDER_NOT_FOUND: "server/commerce/test_catalogue_keeping.py::test_strangers_learn_nothing_of_a_shop",
    ErrorCode.BUSINESS_CLOSED: (
        "server/commerce/test_order_steps.py::test_what_cannot_be_ordered_is_refused_and_moves_nothing"
    ),
    ErrorCode.CART_EMPTY: (
        "server/commerce/test_order_steps.py::test_what_cannot_be_ordered_is_refused_and_moves_nothing"
    ),
    ErrorCode.SHIPPING_REFUSED: (
        "server/commerce/test_order_steps.py::test_shipping_is_a_line_of_the_order_with_its_tax"
    ),
    ErrorCode.OUT_OF_STOCK: "server/commerce/test_catalogue_keeping.py::test_stock_never_falls_below_nothing",
    ErrorCode.SKU_TAKEN: "server/commerce/test_catalogue_keeping.py::test_an_article_number_is_once_in_a_business",
    ErrorCode.LAST_OWNER: "server/commerce/test_business_keeping.py::test_a_business_keeps_an_owner",
    ErrorCode.SHOP_BOUND: "server/commerce/test_business_keeping.py::test_a_person_is_staff_of_so_many_businesses",
    ErrorCode.ORDER_STATE: "server/commerce/test_order_steps.py::test_a_customer_cancels_until_staff_process_the_order",
    ErrorCode.GATEWAY_REFUSED: (
        "server/commerce/gateways/test_gateway_work.py::test_withdrawals_are_refused_that_are_large_anothers_or_of_no_gateway"
    ),
    ErrorCode.SOURCE_REFUSED: (
        "server/commerce/gateways/test_gateway_work.py::test_what_a_wallet_paid_is_not_refunded_to_a_card"
    ),
    ErrorCode.INTENT_NOT_FOUND: (
        "server/commerce/gateways/test_gateway_work.py::test_the_intents_of_others_are_not_found"
    ),
    ErrorCode.RATE_LIMITED: "server/api/test_people.py::test_searches_are_limited",
    ErrorCode.UNAVAILABLE: (
        "server/session/test_session.py::test_a_read_without_a_database_is_unavailable_and_can_be_repeated"
    ),
    ErrorCode.INTERNAL: "server/test_refusals.py::test_a_fault_of_the_server_is_reported_and_not_explained",
    CloseCode.GOING_AWAY: (
        "server/gateway/test_connection.py::test_the_clients_close_is_answered_and_the_peer_notified_once"
    ),
    CloseCode.PROTOCOL_ERROR: (
        "server/gateway/test_connection.py::test_bad_input_is_answered_with_its_code_and_nothing_after_it_is_read"
    ),
    CloseCode.UNSUPPORTED_DATA: "server/session/test_session.py::test_text_under_msgpack_and_binary_under_json_close",
    CloseCode.INVALID_TEXT: (
        "server/gateway/test_connection.py::test_bad_input_is_answered_with_its_code_and_nothing_after_it_is_read"
    ),
    CloseCode.MESSAGE_TOO_BIG: (
        "server/gateway/test_connection.py::test_bad_input_is_answered_with_its_code_and_nothing_after_it_is_read"
    ),
    CloseCode.INTERNAL_ERROR: "server/session/test_session.py::test_a_fault_in_a_handler_closes_that_session_alone",
    CloseCode.DRAINING: (
        "server/session/test_session.py::test_draining_finishes_what_is_under_way_and_sends_clients_elsewhere"
    ),
    CloseCode.SLOW_CONSUMER: "server/test_refusals.py::test_who_missed_more_than_can_be_remembered_is_closed_with_4001",
    CloseCode.IDLE: "server/session/test_session.py::test_a_silent_connection_hears_heartbeats_then_is_closed",
    CloseCode.UNAVAILABLE: (
        "server/session/test_session.py::test_a_session_that_cannot_be_caught_up_is_asked_to_reconnect"
    ),
    CloseCode.RATE_LIMITED: (
        "server/test_refusals.py::test_who_has_refused_numbers_in_too_many_dialogs_is_closed_with_4004"
    ),
    CloseCode.TOKEN_EXPIRED: "server/session/test_session.py::test_a_token_that_ends_closes_unless_a_newer_one_came",
    CloseCode.AUTH_TIMEOUT: "server/session/test_session.py::test_who_does_not_authenticate_in_time_is_closed",
    CloseCode.AUTH_FAILED: "server/session/test_session.py::test_an_invalid_token_closes",
    CloseCode.SIGNED_OUT: "server/session/test_session.py::test_a_session_never_changes_its_sign_in",
    CloseCode.TOO_MANY_SIGN_INS: (
        "server/node/test_identity.py::test_the_sixth_sign_in_closes_the_first_ones_socket_and_says_why"
    ),
    CloseCode.SUSPENDED: (
        "server/node/test_identity.py::test_the_suspended_and_the_deleted_are_cut_off_with_their_own_codes"
    ),
    CloseCode.DELETED: (
        "server/node/test_identity.py::test_the_suspended_and_the_deleted_are_cut_off_with_their_own_codes"
    ),
    CloseCode.REPLACED: "server/test_conversation.py::test_a_newer_connection_of_a_device_takes_over",
    CloseCode.BAD_MESSAGE: "server/test_conversation.py::test_rubbish_is_answered_then_closed",
}


def test_every_code_has_its_row() -> None:
    assert set(EXPECTED_BY) == {*ErrorCode, *CloseCode}


def test_every_verdict_is_durable_or_an_error() -> None:
    assert set(ERROR_OF) == set(VerdictCode) - DURABLE


@pytest.mark.parametrize("code", EXPECTED_BY, ids=lambda code: code.name)
def test_the_named_test_is_there_and_speaks_of_the_code(code: ErrorCode | CloseCode) -> None:
    path, name = EXPECTED_BY[code].split("::")
    source = (TESTS / path).read_text(encoding="utf-8")
    functions = [node for node in ast.parse(source).body if isinstance(node, ast.AsyncFunctionDef | ast.FunctionDef)]
    (found,) = (node for node in functions if node.name == name)
    first = min([found.lineno, *(decorator.lineno for decorator in found.decorator_list)])
    text = "\n".join(source.splitlines()[first - 1 : found.end_lineno])
    assert re.search(rf"\b{code.value}\b|\b{type(code).__name__}\.{code.name}\b", text), text
