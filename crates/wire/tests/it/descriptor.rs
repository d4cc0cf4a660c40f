//! The service changes only by addition. What was promised stands in a committed descriptor; a new one must hold all of it.
//!
//! After a change of the proto: `UPDATE_DESCRIPTOR=1 cargo test -p pepo-wire descriptor` writes the new one, unless it takes
//! something away.

use std::{collections::BTreeSet, fs, path::PathBuf};

use prost::Message as _;
use prost_types::{DescriptorProto, FileDescriptorSet};

fn committed() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("proto/descriptor.binpb")
}

/// Everything an old peer relies on, a line each.
fn promises(set: &FileDescriptorSet) -> BTreeSet<String> {
    let mut out = BTreeSet::new();
    for file in &set.file {
        for message in &file.message_type {
            of_message(message, &mut out);
        }
        for one in &file.enum_type {
            for value in &one.value {
                out.insert(format!("enum {} {} = {}", one.name(), value.name(), value.number()));
            }
        }
        for service in &file.service {
            for method in &service.method {
                let streams = (method.client_streaming(), method.server_streaming());
                out.insert(format!(
                    "rpc {}/{}({}) -> {} {streams:?}",
                    service.name(),
                    method.name(),
                    method.input_type(),
                    method.output_type()
                ));
            }
        }
    }
    out
}

fn of_message(message: &DescriptorProto, out: &mut BTreeSet<String>) {
    for field in &message.field {
        out.insert(format!(
            "{}.{} = {} {:?} {:?} {}",
            message.name(),
            field.name(),
            field.number(),
            field.r#type(),
            field.label(),
            field.type_name()
        ));
    }
    for nested in &message.nested_type {
        of_message(nested, out);
    }
}

fn lost<'a>(old: &'a BTreeSet<String>, new: &'a BTreeSet<String>) -> Vec<&'a String> {
    old.difference(new).collect()
}

#[test]
fn the_service_changes_only_by_addition() {
    let new = FileDescriptorSet::decode(pepo_wire::DESCRIPTOR).unwrap();
    let old = fs::read(committed())
        .map(|bytes| FileDescriptorSet::decode(bytes.as_slice()).unwrap())
        .unwrap_or_default();
    assert_eq!(lost(&promises(&old), &promises(&new)), Vec::<&String>::new(), "an old peer relies on these");
    if std::env::var_os("UPDATE_DESCRIPTOR").is_some() {
        fs::write(committed(), pepo_wire::DESCRIPTOR).unwrap();
        return;
    }
    assert!(promises(&old).len() > 100, "the committed descriptor is there");
    assert_eq!(
        lost(&promises(&new), &promises(&old)),
        Vec::<&String>::new(),
        "added, but not yet committed: see the head of this file"
    );
}

#[test]
fn a_field_taken_away_or_renumbered_is_noticed() {
    let mut set = FileDescriptorSet::decode(pepo_wire::DESCRIPTOR).unwrap();
    let before = promises(&set);
    set.file[0].message_type[0].field[0].number = Some(99);
    set.file[0].service[0].method.remove(0);
    assert_eq!(lost(&before, &promises(&set)).len(), 2);
}
