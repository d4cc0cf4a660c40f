//! Options of a JVM from its memory: HotSpot exports a table of its own structures (`gHotSpotVMStructs`, for its serviceability
//! agent), and with it the table of all options. What no command line shows (argument files, variables, options that follow from
//! others) is true there.

use pepo_process::{Memory, Process, runtime::Module};

/// Bytes of an entry of each table (`VMStructEntry`, `VMTypeEntry`), in all versions.
const ENTRY: u64 = 48;
const TYPE_ENTRY: u64 = 40;
/// Most entries that are read. There are about 1,500 structures, 1,000 types and 2,000 options.
const MOST: u64 = 8192;
/// The largest option's description, in bytes.
const LARGEST: u64 = 256;
/// Bytes of a name.
const NAME: usize = 64;

/// What decides whether a JVM may be asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Flags {
    /// `-XX:+DisableAttachMechanism`.
    pub(super) attach_disabled: bool,
    /// `-Xrs`.
    pub(super) signals_reduced: bool,
    /// `-XX:-EnableDynamicAgentLoading`; it is there from version 9 on.
    pub(super) agents_refused: bool,
}

/// Where the options are.
#[derive(Default)]
struct Layout {
    table: Option<u64>,
    count: Option<u64>,
    name: Option<u64>,
    address: Option<u64>,
    size: Option<u64>,
}

impl Flags {
    /// Nothing when it is no HotSpot, or one that is built otherwise than all that are known.
    pub(super) fn read(process: &Process, library: &Module) -> Option<Flags> {
        let symbols = ["gHotSpotVMStructs", "gHotSpotVMStructEntryArrayStride", "gHotSpotVMTypes"];
        let at = library.addresses(process, &symbols);
        let memory = process.memory().ok()?;
        if memory.read_u64(*at.get(symbols[1])?).ok()? != ENTRY {
            return None;
        }
        let mut layout = Layout::default();
        layout.read_structures(&memory, memory.read_u64(*at.get(symbols[0])?).ok()?)?;
        layout.read_types(&memory, memory.read_u64(*at.get(symbols[2])?).ok()?)?;
        layout.find(&memory)
    }
}

impl Layout {
    fn read_structures(&mut self, memory: &Memory, table: u64) -> Option<()> {
        for index in 0..MOST {
            let entry: [u64; 6] = memory.read_u64s(table.checked_add(index * ENTRY)?).ok()?;
            if entry[0] == 0 {
                break;
            }
            // "Flag" up to version 9.
            if !is_name(memory, entry[0], &["JVMFlag", "Flag"]) {
                continue;
            }
            match &name(memory, entry[1])?[..] {
                b"flags" => self.table = memory.read_u64(entry[5]).ok(),
                b"numFlags" => self.count = memory.read_u64(entry[5]).ok(),
                b"_name" => self.name = Some(entry[4]),
                b"_addr" => self.address = Some(entry[4]),
                _ => {}
            }
        }
        Some(())
    }

    fn read_types(&mut self, memory: &Memory, table: u64) -> Option<()> {
        for index in 0..MOST {
            let entry: [u64; 5] = memory.read_u64s(table.checked_add(index * TYPE_ENTRY)?).ok()?;
            if entry[0] == 0 {
                break;
            }
            if is_name(memory, entry[0], &["JVMFlag", "Flag"]) {
                self.size = Some(entry[4]);
                break;
            }
        }
        Some(())
    }

    fn find(&self, memory: &Memory) -> Option<Flags> {
        let size = self.size.filter(|size| (16..=LARGEST).contains(size))?;
        let (name_at, address_at) = (self.name?, self.address?);
        if name_at > size - 8 || address_at > size - 8 {
            return None;
        }
        let (table, count) = (self.table?, self.count?.min(MOST));
        let mut options = vec![0; usize::try_from(size * count).ok()?];
        memory.read_at(table, &mut options).ok()?;
        let (mut attach_disabled, mut signals_reduced, mut agents_loaded) = (None, None, None);
        for option in options.chunks_exact(usize::try_from(size).ok()?) {
            let word = |at: u64| word(option, usize::try_from(at).ok()?);
            let place = match &name(memory, word(name_at)?).unwrap_or_default()[..] {
                b"DisableAttachMechanism" => &mut attach_disabled,
                b"ReduceSignalUsage" => &mut signals_reduced,
                b"EnableDynamicAgentLoading" => &mut agents_loaded,
                _ => continue,
            };
            let mut byte = [0];
            memory.read_at(word(address_at)?, &mut byte).ok()?;
            *place = Some(byte[0] != 0);
        }
        Some(Flags {
            attach_disabled: attach_disabled?,
            signals_reduced: signals_reduced?,
            agents_refused: agents_loaded == Some(false),
        })
    }
}

fn word(bytes: &[u8], at: usize) -> Option<u64> {
    bytes.get(at..at.checked_add(8)?)?.try_into().ok().map(u64::from_ne_bytes)
}

fn name(memory: &Memory, address: u64) -> Option<Vec<u8>> {
    memory.read_c_string(address, NAME).ok()
}

/// Is it one of these names? Most differ in their first bytes.
fn is_name(memory: &Memory, address: u64, wanted: &[&str]) -> bool {
    name(memory, address).is_some_and(|name| wanted.iter().any(|wanted| wanted.as_bytes() == name))
}
