//! Names of Java's methods as people read them: what the compiler and the JVM have made of a lambda is told as one.

/// `Shop.lambda$main$0` is `Shop.main{lambda 0}`, `Shop$$Lambda$6/0x00007fad44001c00.run` is `Shop{lambda}.run`. All else stays.
pub(super) fn readable(name: &str) -> String {
    let Some((class, method)) = name.rsplit_once('.') else { return name.to_owned() };
    format!("{}.{}", class_name(class), method_name(method))
}

/// Without the address that the JVM gives to a class which it has made up.
fn class_name(class: &str) -> String {
    let class = match class.split_once('/') {
        Some((before, after)) if after.chars().all(|letter| letter.is_ascii_hexdigit() || letter == 'x') => {
            before
        }
        _ => class,
    };
    match class.split_once("$$Lambda") {
        Some((outer, rest)) if rest.trim_start_matches('$').chars().all(|letter| letter.is_ascii_digit()) => {
            format!("{outer}{{lambda}}")
        }
        _ => class.to_owned(),
    }
}

fn method_name(method: &str) -> String {
    let parts = method.strip_prefix("lambda$").and_then(|rest| rest.rsplit_once('$'));
    match parts {
        Some((within, number))
            if !within.is_empty() && number.chars().all(|letter| letter.is_ascii_digit()) =>
        {
            let within = match within {
                "new" => "<init>",
                "static" => "<clinit>",
                within => within,
            };
            format!("{within}{{lambda {number}}}")
        }
        _ => method.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lambdas_are_told_as_such_and_all_else_as_it_is() {
        for (name, told) in [
            ("Shop.lambda$main$0", "Shop.main{lambda 0}"),
            ("a.b.Shop.lambda$new$12", "a.b.Shop.<init>{lambda 12}"),
            ("Shop$$Lambda$6/0x00007fad44001c00.run", "Shop{lambda}.run"),
            ("Shop$$Lambda/0x0000000014040210.run", "Shop{lambda}.run"),
            ("Shop$$Lambda$1/1324119927.accept", "Shop{lambda}.accept"),
            (
                "java.lang.invoke.LambdaForm$DMH/0x00007f.invokeStatic",
                "java.lang.invoke.LambdaForm$DMH.invokeStatic",
            ),
            ("a.Outer$Inner.<init>", "a.Outer$Inner.<init>"),
            ("Shop.lambda$", "Shop.lambda$"),
            ("Shop.lambda$main$x", "Shop.lambda$main$x"),
            ("nothing", "nothing"),
            ("", ""),
        ] {
            assert_eq!(readable(name), told, "{name}");
        }
    }
}
