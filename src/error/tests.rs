use super::*;

fn shared<T: Clone + Send + Sync + StdError + 'static>() {}

#[test]
fn an_error_is_small_and_can_be_shared() {
    assert!(size_of::<Error>() <= 56, "{} bytes", size_of::<Error>());
    shared::<Error>();
    shared::<SendError>();
}

#[test]
fn json_that_could_not_be_read_is_not_said_to_be_unwritable() {
    // As a hook that parses a message with `?` returns it.
    let error = Error::from(serde_json::from_str::<serde_json::Value>("nonsense").unwrap_err());
    assert!(error.to_string().starts_with("the JSON can't be read or written: expected"), "{error}");
}

#[test]
fn an_illegal_close_code_is_refused() {
    for code in [0, 999, 1004, 1005, 1006, 1015, 1016, 2999, 5000, u16::MAX] {
        let error = CloseFrame::checked(code, "").unwrap_err();
        assert!(error.to_string().contains(&code.to_string()), "{error}");
    }
    for code in [1000, 1001, 1003, 1007, 1011, 1014, 3000, 4999] {
        assert_eq!(CloseFrame::checked(code, "bye").unwrap().code, code);
    }
}

#[test]
fn a_close_reason_over_123_bytes_is_refused() {
    assert!(CloseFrame::checked(1000, &"x".repeat(123)).is_ok());
    let error = CloseFrame::checked(1000, &"x".repeat(124)).unwrap_err();
    assert_eq!(
        error.to_string(),
        "the close reason can't be used: 124 bytes; a close frame carries 123 at most"
    );
}

#[test]
fn an_error_that_returns_a_message_does_not_print_it() {
    let error = SendError::new("s3cret".into(), SendErrorKind::Full { messages: 3, bytes: 90 });
    assert_eq!(
        error.to_string(),
        "the outbox is full (3 messages, 90 bytes); the message is inside this error"
    );
    assert!(!format!("{error:?}").contains("s3cret"));
}

#[test]
fn a_panic_names_the_callback_or_the_library_itself() {
    let callback = Error::Panicked { callback: "resolver" };
    assert_eq!(callback.to_string(), "the application's resolver callback panicked");
    let ours = Error::Panicked { callback: INTERNAL }.to_string();
    assert!(ours.contains("tautline") && ours.contains("report") && !ours.contains("callback"), "{ours}");
}

#[test]
fn what_was_lost_or_expired_is_named() {
    let tickets: Tickets = [1..=2, 5..=5].into_iter().collect();
    let unconfirmed = Error::Unconfirmed { tickets: tickets.clone() }.to_string();
    assert_eq!(
        unconfirmed,
        "the line was lost before the server confirmed #1 to #2, #5: that may have arrived or not"
    );
    let expired = Error::Expired { tickets }.to_string();
    assert_eq!(expired, "#1 to #2, #5 waited longer than max_age allows, and will never be sent");
}

#[test]
fn a_short_wait_is_shown_in_milliseconds() {
    let ms = Duration::from_millis;
    let dead = |silence| Error::HeartbeatTimeout { silence }.to_string();
    assert_eq!(dead(ms(150)), "heartbeat timeout: no answer for 150ms");
    assert_eq!(dead(ms(10_012)), "heartbeat timeout: no answer for 10.0s");
    let stalled = |after| Error::WriteStalled { after }.to_string();
    assert_eq!(stalled(Duration::from_nanos(999_999_999)), "the server took no more bytes for 999ms");
    assert_eq!(stalled(ms(1000)), "the server took no more bytes for 1.0s");
}

#[test]
fn a_wait_in_vain_says_for_what_and_why() {
    let timeout =
        |source| Error::Timeout { waiting_for: "a message", after: Duration::from_millis(300), source };
    assert_eq!(timeout(None).to_string(), "waited 300ms in vain for a message");
    let down = timeout(Some(Arc::new(Error::Closed))).to_string();
    assert_eq!(down, "waited 300ms in vain for a message: the client is closed");
}

#[test]
fn a_cause_is_kept() {
    let io = Arc::new(io::Error::from(io::ErrorKind::ConnectionRefused));
    let error = Error::Connect { host: "h:1".into(), source: io };
    let gave_up = Error::GaveUp { attempts: 3, source: Arc::new(error) };
    assert!(gave_up.source().unwrap().source().unwrap().to_string().contains("refused"));
}
