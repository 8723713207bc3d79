//! A disk in memory whose operations fail as told, and which forgets unsynced writes when its power is cut.

use std::fmt::Debug;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard};

use redb::StorageBackend;

use super::Numbers;
use crate::disk::{Disk, RESERVE_BYTES};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// The operation fails and does nothing.
    Error,
    /// The operation fails for lack of space and does nothing.
    Full,
    /// Half of a write is done before it fails.
    Torn,
    /// The operation and all after it fail, until the power comes back.
    PowerCut,
}

#[derive(Clone, Debug)]
enum Unsynced {
    Write(u64, Vec<u8>),
    Length(u64),
}

#[derive(Clone, Debug, Default)]
struct Bytes {
    now: Vec<u8>,
    durable: Vec<u8>,
    unsynced: Vec<Unsynced>,
}

impl Bytes {
    fn sync(&mut self) {
        self.unsynced.clear();
        self.durable.clone_from(&self.now);
    }
}

#[derive(Debug, Default)]
pub(crate) struct Ram {
    fresh: Option<Bytes>,
    file: Option<Bytes>,
    reserve: bool,
    capacity: Option<u64>,
    dead: bool,
    fault: Option<(u64, Kind)>,
    pub(crate) operations: u64,
    pub(crate) opened: u64,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct RamDisk(Arc<Mutex<Ram>>);

impl RamDisk {
    pub(crate) fn ram(&self) -> MutexGuard<'_, Ram> {
        self.0.lock().unwrap()
    }

    pub(crate) fn boxed(&self) -> Box<dyn Disk> {
        Box::new(self.clone())
    }

    /// Lets the operation of that number, counted from now, fail once.
    pub(crate) fn fail(&self, at: u64, kind: Kind) {
        let mut ram = self.ram();
        ram.operations = 0;
        ram.fault = Some((at, kind));
    }

    /// Whether the fault has not struck yet.
    pub(crate) fn is_armed(&self) -> bool {
        self.ram().fault.is_some()
    }

    pub(crate) fn set_capacity(&self, bytes: Option<u64>) {
        self.ram().capacity = bytes;
    }

    pub(crate) fn used(&self) -> u64 {
        self.ram().used()
    }

    /// Ends all handles; of what was not synced, a part that depends on the seed is on the disk.
    pub(crate) fn cut_power(&self, seed: u64) {
        let mut ram = self.ram();
        ram.dead = false;
        ram.fault = None;
        let mut numbers = Numbers(seed);
        if let Some(file) = &mut ram.file {
            file.now.clone_from(&file.durable);
            for change in std::mem::take(&mut file.unsynced) {
                match change {
                    Unsynced::Length(length) => file.now.resize(usize::try_from(length).unwrap(), 0),
                    Unsynced::Write(offset, data) if numbers.below(2) == 0 => {
                        let start = usize::try_from(offset).unwrap();
                        if let Some(place) = file.now.get_mut(start..start + data.len()) {
                            place.copy_from_slice(&data);
                        }
                    }
                    Unsynced::Write(..) => {}
                }
            }
            file.sync();
        }
    }

    pub(crate) fn file(&self) -> Vec<u8> {
        self.ram().file.as_ref().unwrap().now.clone()
    }

    pub(crate) fn overwrite(&self, offset: usize, data: &[u8]) {
        let mut ram = self.ram();
        let file = &mut ram.file.as_mut().unwrap().now;
        file[offset..offset + data.len()].copy_from_slice(data);
    }

    pub(crate) fn holding(bytes: Vec<u8>) -> Self {
        let disk = Self::default();
        disk.ram().file = Some(Bytes { durable: bytes.clone(), now: bytes, unsynced: Vec::new() });
        disk.ram().reserve = true;
        disk
    }
}

impl Ram {
    fn used(&self) -> u64 {
        let length = |bytes: &Option<Bytes>| bytes.as_ref().map_or(0, |bytes| bytes.now.len() as u64);
        let reserve = if self.reserve { RESERVE_BYTES } else { 0 };
        length(&self.file) + length(&self.fresh) + reserve
    }

    /// Counts an operation; `Some` if it shall fail.
    fn strike(&mut self) -> Option<Kind> {
        let number = self.operations;
        self.operations += 1;
        if self.dead {
            return Some(Kind::PowerCut);
        }
        let (_, kind) = self.fault.take_if(|(at, _)| *at == number)?;
        self.dead = kind == Kind::PowerCut;
        Some(kind)
    }
}

impl Disk for RamDisk {
    fn exists(&self) -> io::Result<bool> {
        Ok(self.ram().file.is_some())
    }

    fn create(&self) -> io::Result<Box<dyn StorageBackend>> {
        self.ram().fresh = Some(Bytes::default());
        Ok(Box::new(Handle { disk: self.clone(), fresh: true, number: 0 }))
    }

    fn publish(&self) -> io::Result<()> {
        let mut ram = self.ram();
        ram.file = ram.fresh.take();
        Ok(())
    }

    fn open(&self) -> io::Result<Box<dyn StorageBackend>> {
        let mut ram = self.ram();
        ram.opened += 1;
        Ok(Box::new(Handle { disk: self.clone(), fresh: false, number: ram.opened }))
    }

    fn file_bytes(&self) -> io::Result<u64> {
        Ok(self.file().len() as u64)
    }

    fn free_bytes(&self) -> io::Result<u64> {
        let ram = self.ram();
        Ok(ram.capacity.unwrap_or(u64::MAX).saturating_sub(ram.used()))
    }

    fn has_reserve(&self) -> bool {
        self.ram().reserve
    }

    fn make_reserve(&self) -> io::Result<()> {
        self.ram().reserve = true;
        Ok(())
    }

    fn release_reserve(&self) -> io::Result<bool> {
        Ok(std::mem::take(&mut self.ram().reserve))
    }
}

/// An open file; the store must not use one that is no longer the latest.
#[derive(Debug)]
struct Handle {
    disk: RamDisk,
    fresh: bool,
    number: u64,
}

impl Handle {
    fn run<T>(&self, work: impl FnOnce(&mut Bytes, Option<Kind>) -> io::Result<T>) -> io::Result<T> {
        let mut ram = self.disk.ram();
        assert!(self.fresh || self.number == ram.opened, "a stale handle is used");
        let strike = ram.strike();
        let bytes = if self.fresh { ram.fresh.as_mut() } else { ram.file.as_mut() };
        match (strike, bytes) {
            (Some(Kind::Error | Kind::PowerCut), _) | (_, None) => Err(io::Error::other("the disk failed")),
            (Some(Kind::Full), _) => Err(io::ErrorKind::StorageFull.into()),
            (kind, Some(bytes)) => work(bytes, kind),
        }
    }
}

impl StorageBackend for Handle {
    fn len(&self) -> io::Result<u64> {
        self.run(|bytes, kind| fine(kind).map(|()| bytes.now.len() as u64))
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.run(|bytes, kind| {
            fine(kind)?;
            let start = usize::try_from(offset).unwrap();
            let found = start.checked_add(out.len()).and_then(|end| bytes.now.get(start..end));
            out.copy_from_slice(found.ok_or(io::ErrorKind::UnexpectedEof)?);
            Ok(())
        })
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let (capacity, used) = {
            let ram = self.disk.ram();
            (ram.capacity.unwrap_or(u64::MAX), ram.used())
        };
        self.run(|bytes, kind| {
            fine(kind)?;
            if len > bytes.now.len() as u64 && used - bytes.now.len() as u64 + len > capacity {
                return Err(io::ErrorKind::StorageFull.into());
            }
            bytes.now.resize(usize::try_from(len).unwrap(), 0);
            bytes.unsynced.push(Unsynced::Length(len));
            Ok(())
        })
    }

    fn sync_data(&self) -> io::Result<()> {
        self.run(|bytes, kind| {
            fine(kind)?;
            bytes.sync();
            Ok(())
        })
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.run(|bytes, kind| {
            let done = if kind.is_some() { &data[..data.len() / 2] } else { data };
            let start = usize::try_from(offset).unwrap();
            bytes.now[start..start + done.len()].copy_from_slice(done);
            bytes.unsynced.push(Unsynced::Write(offset, done.to_vec()));
            fine(kind)
        })
    }
}

fn fine(kind: Option<Kind>) -> io::Result<()> {
    if kind.is_some() { Err(io::Error::other("the disk failed half-way")) } else { Ok(()) }
}
