//! Mangled names as they were written.

/// The name of a function in its language: Rust without hashes, C++ with its parameters, all else as it is.
pub(crate) fn demangled(name: &str) -> String {
    if let Ok(rust) = rustc_demangle::try_demangle(name) {
        return format!("{rust:#}");
    }
    let plain = || name.to_owned();
    if !name.starts_with("_Z") {
        return plain();
    }
    // Suffixes of the compiler (`.isra.0`, `.cold`) are part of the name that it understands.
    cpp_demangle::Symbol::new(name).ok().and_then(|symbol| symbol.demangle().ok()).unwrap_or_else(plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_as_they_were_written() {
        for (mangled, written) in [
            ("main", "main"),
            ("main.(*Server).handle", "main.(*Server).handle"),
            ("_ZN4core3ptr13drop_in_place17h0123456789abcdefE", "core::ptr::drop_in_place"),
            ("_RNvCs1234_7mycrate3foo", "mycrate::foo"),
            ("_ZN3foo3barEiPKc", "foo::bar(int, char const*)"),
            ("_Znot_a_name", "_Znot_a_name"),
        ] {
            assert_eq!(demangled(mangled), written);
        }
    }
}
