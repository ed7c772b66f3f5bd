"""What the service and the relay may do in the books: read all tables, and call the functions that are listed here.

Every connection of theirs has the role SERVICE_ROLE (the startup setting `role`). STEPS change something: they run with
the rights of the owner, on a fixed search path. What only steps call is nobody's to call.
"""

from __future__ import annotations

SERVICE_ROLE = "tchat_commerce"

STEPS = frozenset(
    {
        "accept_books",
        "add_export_part",
        "answer_step",
        "apply_effect",
        "approve_payment",
        "begin_erasure",
        "begin_export",
        "begin_gateway_refund",
        "begin_payment",
        "begin_reading",
        "begin_top_up",
        "begin_withdrawal",
        "books_serve",
        "capture_payments",
        "change_stock",
        "claim_cursor",
        "claim_hints",
        "claim_intents",
        "close_period",
        "declare_failover",
        "dispute_payment",
        "drop_personal_item",
        "end_api_key",
        "end_exports",
        "end_kept_items",
        "ensure_reference",
        "expire_payment",
        "finish_hint",
        "forget_answers",
        "forget_erased_keys",
        "forget_erased_people",
        "forget_webhooks",
        "give_up_keys",
        "hold_payments",
        "import_balances",
        "lease_places",
        "make_quote",
        "move_cursor",
        "name_personal_key",
        "note_key_store",
        "note_keys_gone",
        "note_reading",
        "note_told",
        "note_webhook",
        "open_account",
        "place_order",
        "post_chain",
        "put_off_export",
        "put_personal_item",
        "reconcile_payments",
        "refund_payment",
        "release_suspense",
        "repeat_announcements",
        "set_api_key",
        "set_business",
        "set_cart_line",
        "set_fee_rule",
        "set_limits",
        "set_product",
        "set_rate",
        "set_shipping_option",
        "set_staff",
        "set_variant",
        "settle_intent",
        "settle_place",
        "spend_step_up",
        "spread_versions",
        "step_order",
        "step_payment",
        "take_anyway",
    }
)
READ_FUNCTIONS = frozenset({"account_of", "clock_us", "gateways_behind", "priced_lines", "tax_of", "unread_tenants"})
"""What statements that read call; they run with the rights of the role."""


def _quoted(names: frozenset[str]) -> str:
    return ", ".join(f"'{name}'" for name in sorted(names))


GRANTS = f"""
DO $$
DECLARE
    v_function regprocedure;
BEGIN
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = '{SERVICE_ROLE}') THEN
        BEGIN
            CREATE ROLE {SERVICE_ROLE} NOLOGIN;
        EXCEPTION
            WHEN duplicate_object OR unique_violation THEN NULL;  -- another database of this server was faster
            WHEN insufficient_privilege THEN
                RAISE insufficient_privilege USING MESSAGE = format(
                    'say once, as a superuser: CREATE ROLE {SERVICE_ROLE} NOLOGIN; GRANT {SERVICE_ROLE} TO %I',
                    current_user);
        END;
    END IF;
    IF NOT pg_has_role(current_user, '{SERVICE_ROLE}', 'SET') THEN
        EXECUTE format('GRANT {SERVICE_ROLE} TO %I', current_user);
    END IF;
    EXECUTE format('GRANT USAGE ON SCHEMA %I TO {SERVICE_ROLE}', current_schema());
    EXECUTE format('GRANT SELECT ON ALL TABLES IN SCHEMA %I TO {SERVICE_ROLE}', current_schema());
    EXECUTE format('REVOKE EXECUTE ON ALL FUNCTIONS IN SCHEMA %I FROM PUBLIC, {SERVICE_ROLE}', current_schema());
    FOR v_function IN SELECT p.oid FROM pg_proc p
        WHERE p.pronamespace = current_schema()::regnamespace AND p.proname IN ({_quoted(STEPS | READ_FUNCTIONS)})
    LOOP
        EXECUTE format('GRANT EXECUTE ON FUNCTION %s TO {SERVICE_ROLE}', v_function);
    END LOOP;
    FOR v_function IN SELECT p.oid FROM pg_proc p
        WHERE p.pronamespace = current_schema()::regnamespace AND p.proname IN ({_quoted(STEPS)})
    LOOP
        EXECUTE format('ALTER FUNCTION %s SECURITY DEFINER SET search_path = pg_catalog, %I, pg_temp',
                       v_function, current_schema());
    END LOOP;
END $$;
"""
"""What the owner of the tables and functions executes after they were made; again at will."""
GRANTED = f"""
SELECT coalesce(pg_has_role(to_regrole('{SERVICE_ROLE}')::oid, 'SET')
                AND has_table_privilege(to_regrole('{SERVICE_ROLE}')::oid, 'keys', 'SELECT'), false)
"""
"""Whether that was done in this cluster: a dump that is loaded into another one brings neither role nor grants."""
