//! The table of programs: names told apart, every recipe whole.

use std::collections::BTreeSet;

use super::*;

#[test]
fn names_are_told_apart() {
    let mut names = BTreeSet::new();
    for program in PROGRAMS {
        assert!(
            program.id.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
        );
        let spoken = std::iter::once(program.id).chain(program.aliases.iter().copied());
        for name in spoken.map(str::to_lowercase) {
            assert!(names.insert(name.clone()), "{name} is two programs");
        }
    }
    for (name, id) in
        [("HAProxy", "haproxy"), ("go", "go-http"), ("istio-proxy", "envoy"), ("MariaDB", "mysql")]
    {
        assert_eq!(named(name).map(|program| program.id), Some(id));
    }
    assert!(named("").is_none());
}

#[test]
fn processes_are_recognised_by_their_command() {
    for (command, id) in [
        ("nginx", Some("nginx")),
        ("php-fpm8.2", Some("php-fpm")),
        ("(squid-1)", Some("squid")),
        ("mariadbd", Some("mysql")),
        ("java", None),
        ("nginx-exporter", None),
    ] {
        assert_eq!(of(command).map(|program| program.id), id, "{command}");
    }
}

#[test]
fn every_recipe_is_whole_and_no_need_is_told_twice() {
    for program in PROGRAMS {
        let mut needs = BTreeSet::new();
        assert!(program.about.ends_with('.'), "{}", program.id);
        for recipe in program.recipes {
            assert!(needs.insert(recipe.need), "{} has {:?} twice", program.id, recipe.need);
            assert!(!recipe.lines.is_empty() && !recipe.about.is_empty() && !recipe.source.is_empty());
            assert!(!recipe.about.ends_with('.'), "{}: {}", program.id, recipe.about);
            assert!(recipe.lines.iter().all(|line| line.len() <= 90), "{}: {:?}", program.id, recipe.lines);
            let configuration = program.configuration(recipe.need).unwrap();
            assert_eq!(configuration.lines, recipe.lines);
        }
        assert_eq!(program.configurations().len(), program.recipes.len());
    }
    assert_eq!(named("nginx").unwrap().configuration(Need::ReuseConnections).unwrap().program, "nginx");
}
