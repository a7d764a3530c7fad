//! Whether an output looks like the one that a page shows.

/// Compares by line: blanks count as one, numbers as any number, `…` as anything, and `you` as whoever types. A line of
/// `…` alone stands for any lines. The error says what does not fit.
pub(super) fn compare(shown: &[String], said: &str) -> Result<(), String> {
    let said: Vec<&str> = said
        .lines()
        .filter(|line| !line.trim().is_empty())
        .collect();
    let shown: Vec<&str> = shown
        .iter()
        .map(String::as_str)
        .filter(|line| !line.trim().is_empty())
        .collect();
    if lines(&shown, &said) {
        Ok(())
    } else {
        Err(format!(
            "shown:\n{}\nsaid:\n{}",
            shown.join("\n"),
            said.join("\n")
        ))
    }
}

fn lines(shown: &[&str], said: &[&str]) -> bool {
    match shown.split_first() {
        None => said.is_empty(),
        Some((line, rest)) if line.trim() == "…" => {
            (0..=said.len()).any(|skipped| lines(rest, &said[skipped..]))
        }
        Some((line, rest)) => said
            .split_first()
            .is_some_and(|(first, others)| fits(line, first) && lines(rest, others)),
    }
}

fn fits(shown: &str, said: &str) -> bool {
    let parts: Vec<String> = shown.split('…').map(plain).collect();
    let said = plain(said);
    let [first, middle @ .., last] = &parts[..] else {
        return parts.first() == Some(&said);
    };
    let Some(mut rest) = said.strip_prefix(first.as_str()) else {
        return false;
    };
    for part in middle {
        let Some((_, after)) = rest.split_once(part.as_str()) else {
            return false;
        };
        rest = after;
    }
    rest.ends_with(last.as_str())
}

/// With one blank for several, and one `0` for a number.
fn plain(text: &str) -> String {
    let mut plain = String::new();
    let text = text.replace(&e2e::current_user(), "you");
    for c in text.trim().chars() {
        let c = if c.is_ascii_digit() { '0' } else { c };
        if !((c == ' ' || c == '0') && plain.ends_with(c)) {
            plain.push(c);
        }
    }
    plain
}

#[test]
fn numbers_blanks_and_dots_may_differ_and_words_may_not() {
    let looks = |shown: &str, said: &str| {
        let shown: Vec<String> = shown.lines().map(str::to_owned).collect();
        compare(&shown, said).is_ok()
    };
    assert!(looks(
        "  4 ms  on 127.0.0.1:34511",
        " 1023 ms on 127.0.0.1:1\n\n"
    ));
    assert!(looks("a … c", "a bb b c") && looks("SHA256:…", "SHA256:abc"));
    assert!(looks("a\n…\nz", "a\nb\nc\nz") && looks("a\n…", "a"));
    assert!(looks(&e2e::current_user(), "you"));
    for (shown, said) in [
        ("a", "b"),
        ("a", "a\nb"),
        ("a\nb", "a"),
        ("a … c", "a b"),
        ("", "a"),
        ("4 ms", "ms"),
    ] {
        assert!(!looks(shown, said), "{shown:?} {said:?}");
    }
}
