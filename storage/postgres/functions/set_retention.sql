-- Note how long a dialog keeps its messages (0: as long as the dialog); the eraser looks at it again at once.
CREATE FUNCTION set_retention(p_dialog uuid, p_days int, p_now_ms bigint) RETURNS void
LANGUAGE sql VOLATILE
AS $$
    DELETE FROM retention WHERE dialog_id = p_dialog AND p_days = 0;
    INSERT INTO retention (dialog_id, due_ms) SELECT p_dialog, p_now_ms WHERE p_days > 0
    ON CONFLICT (dialog_id) DO UPDATE SET due_ms = excluded.due_ms;
$$;
