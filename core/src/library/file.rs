//! What can be said of a library by its file, before any of its code runs.

use std::fmt::Write as _;

use echo_sdk::Manifest;
use echo_sdk::abi::MAJOR;
use object::Endianness;
use object::elf::{
    ELFCLASS64, ELFMAG, EM_386, EM_AARCH64, EM_ARM, EM_PPC64, EM_RISCV, EM_S390, EM_X86_64, ET_DYN,
    FileHeader64, Machine, NoteType,
};
use object::read::elf::{FileHeader, ProgramHeader};
use sha2::{Digest, Sha256};

use super::error::Fault;

/// The largest file that is read as a library, in bytes.
pub(super) const MAX_FILE: u64 = 512 * 1024 * 1024;

/// The name and the type of the note that makes a library a plugin.
const NOTE: (&[u8], NoteType) = (b"Echo", NoteType(1));

/// The machine of this host, as ELF numbers them.
const HERE: Machine = if cfg!(target_arch = "x86_64") {
    EM_X86_64
} else if cfg!(target_arch = "aarch64") {
    EM_AARCH64
} else if cfg!(target_arch = "riscv64") {
    EM_RISCV
} else {
    Machine(0)
};

/// The SHA-256, in hexadecimal digits.
pub(crate) fn hash(file: &[u8]) -> String {
    let mut text = String::with_capacity(64);
    for byte in Sha256::digest(file) {
        // Writing to a String does not fail.
        let _ = write!(text, "{byte:02x}");
    }
    text
}

/// Checks that the file is a library for this machine and this version of the boundary; its manifest, and the version of
/// the boundary that it was built for.
pub(super) fn inspect(file: &[u8]) -> Result<(Manifest, (u32, u32)), Fault> {
    if !file.starts_with(&ELFMAG) {
        return Err(Fault::NotElf);
    }
    // The fifth byte tells 64 bits from 32; a file that ends before it is caught as too short.
    if file.get(4).is_some_and(|class| *class != ELFCLASS64.0) {
        return Err(Fault::Architecture { found: "32-bit machines".into() });
    }
    let header = header(file)?;
    let endian = header.endian().map_err(|_| Fault::NotElf)?;
    let machine = header.e_machine(endian);
    let native = Endianness::default();
    if machine != HERE || endian != native {
        return Err(Fault::Architecture { found: name_of(machine, endian) });
    }
    if header.e_type(endian) != ET_DYN {
        return Err(Fault::NotShared);
    }
    complete(file, header, endian)?;
    let note = note(file, header, endian).ok_or(Fault::NoNote)?;
    read_note(note)
}

fn header(file: &[u8]) -> Result<&FileHeader64<Endianness>, Fault> {
    let wanted = size_of::<FileHeader64<Endianness>>() as u64;
    let truncated = Fault::Truncated { len: file.len(), wanted };
    FileHeader64::parse(file).map_err(|_| truncated)
}

/// A library of which the end is missing would be mapped, and crash when it is used.
fn complete(
    file: &[u8],
    header: &FileHeader64<Endianness>,
    endian: Endianness,
) -> Result<(), Fault> {
    let end = |start: u64, count: u16, size: u16| {
        start.saturating_add(u64::from(count) * u64::from(size))
    };
    let programs = end(header.e_phoff(endian), header.e_phnum(endian), header.e_phentsize(endian));
    let sections = end(header.e_shoff(endian), header.e_shnum(endian), header.e_shentsize(endian));
    let segments = header.program_headers(endian, file).unwrap_or_default();
    let segment_end = |it: &<FileHeader64<Endianness> as FileHeader>::ProgramHeader| {
        it.p_offset(endian).saturating_add(it.p_filesz(endian))
    };
    let last = segments.iter().map(segment_end).max().unwrap_or_default();
    let wanted = programs.max(sections).max(last);
    if wanted > file.len() as u64 {
        return Err(Fault::Truncated { len: file.len(), wanted });
    }
    Ok(())
}

fn note<'a>(
    file: &'a [u8],
    header: &FileHeader64<Endianness>,
    endian: Endianness,
) -> Option<&'a [u8]> {
    for segment in header.program_headers(endian, file).ok()? {
        let Ok(Some(mut notes)) = segment.notes(endian, file) else { continue };
        while let Ok(Some(note)) = notes.next() {
            if (note.name(), note.n_type(endian)) == NOTE {
                return Some(note.desc());
            }
        }
    }
    None
}

/// The manifest, and the version of the boundary.
fn read_note(note: &[u8]) -> Result<(Manifest, (u32, u32)), Fault> {
    let (major, rest) = note.split_first_chunk().ok_or(Fault::NoNote)?;
    let (minor, json) = rest.split_first_chunk().ok_or(Fault::NoNote)?;
    let found = (u32::from_ne_bytes(*major), u32::from_ne_bytes(*minor));
    if found.0 != MAJOR {
        return Err(Fault::Version { found });
    }
    let json = std::str::from_utf8(json).map_err(|_| Fault::ManifestNotUtf8)?;
    Ok((Manifest::from_json(json).map_err(Fault::Manifest)?, found))
}

fn name_of(machine: Machine, endian: Endianness) -> String {
    let name = match machine {
        EM_X86_64 => "x86_64",
        EM_386 => "x86",
        EM_AARCH64 => "aarch64",
        EM_ARM => "arm",
        EM_RISCV => "riscv64",
        EM_PPC64 => "powerpc64",
        EM_S390 => "s390x",
        other => return format!("machine {} of ELF's list", other.0),
    };
    match endian {
        Endianness::Little => name.to_owned(),
        Endianness::Big => format!("{name}, most significant byte first,"),
    }
}
