//! The files of a log: segments, and spares to become segments.

use std::io;
use std::sync::Arc;

use crate::disk::{Disk, DiskFile};

/// The file name of a segment.
pub(crate) fn name_of(segment: u32) -> String {
    format!("{segment:010}.log")
}

/// The number of the segment that a file is.
fn segment_of(name: &str) -> Option<u32> {
    let number = name.strip_suffix(".log")?;
    (number.len() == 10).then(|| number.parse().ok())?
}

/// How spares are called: this and a number.
const SPARE: &str = "spare-";

/// More spares than this are removed: the reserve, one to use, and one that was freed before it was used.
const MAX_SPARES: usize = 3;

/// The files that hold no records.
pub(crate) struct Files {
    pub(crate) disk: Arc<dyn Disk>,
    pub(crate) size: u32,
    spares: Vec<Spare>,
    next_spare: u32,
}

struct Spare {
    name: String,
    file: Arc<dyn DiskFile>,
    /// Up to where it is known that something was written.
    written: u32,
}

impl Files {
    /// Looks at what is there: gives the numbers of the segments too, in order.
    pub(crate) fn find(disk: Arc<dyn Disk>, size: u32) -> io::Result<(Self, Vec<u32>)> {
        let names = disk.list()?;
        let mut segments: Vec<u32> = names.iter().filter_map(|name| segment_of(name)).collect();
        segments.sort_unstable();
        let mut this = Self { disk, size, spares: Vec::new(), next_spare: 1 };
        for name in names.into_iter().filter(|name| name.starts_with(SPARE)) {
            this.keep(name, 0)?;
        }
        Ok((this, segments))
    }

    /// Makes a file that is out of use a spare, or removes it.
    fn keep(&mut self, name: String, written: u32) -> io::Result<()> {
        let number = name.strip_prefix(SPARE).and_then(|number| number.parse::<u32>().ok());
        self.next_spare = self.next_spare.max(number.unwrap_or_default().wrapping_add(1));
        let file = self.disk.open(&name)?;
        if self.spares.len() < MAX_SPARES && file.len()? == u64::from(self.size) {
            self.spares.push(Spare { name, file, written });
            return Ok(());
        }
        self.disk.remove(&name)
    }

    /// The bytes that spares take.
    pub(crate) fn spare_bytes(&self) -> u64 {
        self.spares.len() as u64 * u64::from(self.size)
    }

    pub(crate) fn spares(&self) -> usize {
        self.spares.len()
    }

    fn spare_name(&mut self) -> String {
        self.next_spare = self.next_spare.wrapping_add(1);
        format!("{SPARE}{}", self.next_spare)
    }

    /// Makes a spare out of nothing.
    pub(crate) fn make_spare(&mut self) -> io::Result<()> {
        let name = self.spare_name();
        let file = self.disk.create(&name, self.size)?;
        self.spares.push(Spare { name, file, written: 0 });
        Ok(())
    }

    /// Makes a spare a segment: gives the file, and up to where it is known that something was written. `None` when
    /// there is no spare.
    pub(crate) fn begin(&mut self, segment: u32) -> io::Result<Option<(Arc<dyn DiskFile>, u32)>> {
        let Some(spare) = self.spares.pop() else { return Ok(None) };
        self.disk.rename(&spare.name, &name_of(segment))?;
        self.disk.sync()?;
        Ok(Some((spare.file, spare.written)))
    }

    /// Frees a segment for good before it returns: an older one that were to stay when it is gone would bring
    /// back what its records say is done.
    pub(crate) fn free(&mut self, segment: u32) -> io::Result<()> {
        let name = self.spare_name();
        self.disk.rename(&name_of(segment), &name)?;
        self.disk.sync()?;
        self.keep(name, self.size)
    }
}
