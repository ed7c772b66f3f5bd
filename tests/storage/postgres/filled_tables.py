"""A database with thousands of rows in each table, of other people than those that a test is about."""

FILLED = 3000
FILL = f"""
CREATE TEMPORARY TABLE filler AS
    SELECT uuidv7() AS person, uuidv7() AS device, uuidv7() AS sign_in, uuidv7() AS dialog, g,
           sha256(int8send(g)) AS hash
    FROM generate_series(1, {FILLED}) g;
INSERT INTO principals (principal_id, tenant_id, type, created_at_ms) SELECT person, 1, 1, 0 FROM filler;
INSERT INTO people (principal_id, tenant_id, phone_hash, phone_key, phone_box, display_name, locale, timezone,
                    updated_at_ms)
    SELECT person, 1, hash, 'k', 'box', 'name', '', '', 0 FROM filler;
INSERT INTO devices SELECT device, person, 0 FROM filler;
INSERT INTO sign_ins (sign_in_id, principal_id, device_id, tenant_id, created_at_ms, last_used_at_ms)
    SELECT sign_in, person, device, 1, 0, 0 FROM filler;
INSERT INTO refresh_tokens SELECT hash, sign_in, 0 FROM filler;
INSERT INTO codes SELECT 1, hash, 'network', dialog, hash, 3, 9007199254740991 FROM filler;
INSERT INTO services SELECT person, 'service' FROM filler;
INSERT INTO accounts SELECT person, 1, device, 2, 0 FROM filler;
INSERT INTO webhooks (principal_id, url, secret_no) SELECT person, 'https://bots.example', 1 FROM filler;
INSERT INTO webhook_positions (principal_id, dialog_id, seq) SELECT person, dialog, 1 FROM filler;
INSERT INTO api_keys SELECT device, person, hash, '{{}}', 0, '{{}}' FROM filler;
INSERT INTO audit (at_ms, tenant_id, action, actor_id, subject_id)
    SELECT 9007199254740991, 1, 'sign_in.opened', person, person FROM filler;
INSERT INTO ended_access (at_ms, principal_id, why) SELECT 9007199254740991, person, 2 FROM filler;
INSERT INTO blocks SELECT person, device FROM filler;
INSERT INTO contacts SELECT person, device FROM filler;
INSERT INTO invitations (principal_id, dialog_id, invited_by, seq) SELECT person, dialog, device, 1 FROM filler;
INSERT INTO dialogs SELECT dialog, 'name', '', '', false, true, 0, false, person, 0 FROM filler;
INSERT INTO heads SELECT dialog, 1, 3, 2, false, 3, 3, 1, 0, 2, 1, pg_current_xact_id() FROM filler;
INSERT INTO receipt_heads SELECT dialog, pg_current_xact_id() FROM filler;
INSERT INTO deleted_dialogs SELECT dialog, 9007199254740991 FROM filler;
INSERT INTO archive_erasures SELECT dialog, 2 FROM filler;
INSERT INTO purged_authors (principal_id, due_ms) SELECT person, 9007199254740991 FROM filler;
INSERT INTO left_numbers SELECT device, 10000 FROM filler;
INSERT INTO device_keys (device_id, principal_id, generation, ed25519, curve25519, keys)
    SELECT device, person, 1, hash, hash, 'keys' FROM filler;
INSERT INTO one_time_keys SELECT device, k, (SELECT epoch FROM deployment), 'key' FROM filler, generate_series(1, 2) k;
INSERT INTO fallback_keys (device_id, key_no, key) SELECT device, 1, 'key' FROM filler;
INSERT INTO key_claims SELECT device, 1, 0, '{{}}', '{{}}', '{{}}', '{{}}', '{{}}' FROM filler;
INSERT INTO identities (principal_id, generation, length, head, master_key)
    SELECT person, 1, 1, hash, hash FROM filler;
INSERT INTO device_logs SELECT person, 0, hash, 'entry' FROM filler;
INSERT INTO former_logs SELECT person, g, 0, hash, 'entry' FROM filler;
INSERT INTO log_devices SELECT person, 0, NULL, device, hash, hash FROM filler;
INSERT INTO log_announcements (principal_id) SELECT person FROM filler;
INSERT INTO roster_intervals (dialog_id, principal_id, from_seq, role, joined_seq, generation, length, head)
    SELECT dialog, person, 1, 1, 1, 1, 1, hash FROM filler;
INSERT INTO members (dialog_id, principal_id, role, member, visible, from_seq, joined_at_ms)
    SELECT dialog, person, 1, true, '{{[1,)}}'::int8multirange, 1, 0 FROM filler
    UNION ALL SELECT dialog, device, 0, true, '{{[1,)}}'::int8multirange, 1, 0 FROM filler;
INSERT INTO authors SELECT dialog, device, 3 FROM filler;
INSERT INTO shares SELECT device, dialog, person, dialog, hash, 0, 1, false, 9007199254740991 FROM filler;
INSERT INTO shares SELECT device, person, person, dialog, hash, 0, 1, true, 9007199254740991 FROM filler;
INSERT INTO slices (to_device, device_id, share_id, body) SELECT device, device, dialog, 'body' FROM filler;
INSERT INTO backups SELECT person, 1, hash, 1, 9007199254740991, 'value' FROM filler;
INSERT INTO backup_counts SELECT person, 1 FROM filler;
INSERT INTO payment_calls SELECT device, dialog, 1, 'what', 0, 9007199254740991 FROM filler;
INSERT INTO mailboxes SELECT device, 1 FROM filler;
INSERT INTO device_messages (to_device, number, dialog_id, author_id, device_id, own, at_ms, body)
    SELECT device, 1, dialog, person, device, false, 9007199254740991, 'body' FROM filler;
INSERT INTO erased_commitments SELECT dialog, 2, person, device, 2, 1, NULL, hash, 9007199254740991 FROM filler;
INSERT INTO reports (at_ms, until_ms, reporter_id, author_id, dialog_id, seq, sealed)
    SELECT 0, 9007199254740991, person, device, dialog, 2, 'sealed' FROM filler;
INSERT INTO handed_sessions SELECT dialog, device, hash, ARRAY[person] FROM filler;
INSERT INTO journal (dialog_id, seq, author_id, device_id, n, tag, target, at_ms, messages, incarnation, flush_no, body)
    SELECT dialog, s, person, device, s, s, s, 0, s, 1, 1, 'body' FROM filler, generate_series(1, 3) s;
"""
