//! The contents of one file, in blocks that copies share. A block that was never written reads as
//! zeros; that it was not is known, because the filesystem has to note it when that changes.

use std::rc::Rc;

pub const BLOCK: usize = 4096;
/// What a device writes as a whole or not at all.
pub const SECTOR: usize = 512;

type Page = Rc<[u8]>;

#[derive(Clone, Default)]
pub struct Pages {
    size: usize,
    blocks: Rc<Vec<Option<Page>>>,
}

impl Pages {
    /// A file of reserved blocks, none of them written.
    pub fn reserved(size: usize) -> Pages {
        Pages {
            size,
            blocks: Rc::default(),
        }
    }

    /// A file of written blocks, all zeros.
    pub fn zeros(size: usize) -> Pages {
        let zero: Page = vec![0; BLOCK].into();
        Pages {
            size,
            blocks: Rc::new(vec![Some(zero); size.div_ceil(BLOCK)]),
        }
    }

    /// A file of these bytes.
    pub fn of(bytes: &[u8]) -> Pages {
        let mut pages = Pages::reserved(0);
        for (at, block) in bytes.chunks(BLOCK).enumerate() {
            let mut whole = vec![0; BLOCK];
            whole[..block.len()].copy_from_slice(block);
            pages.write(at * BLOCK, &whole, |_| true);
        }
        pages.size = bytes.len();
        pages
    }

    pub fn size(&self) -> usize {
        self.size
    }

    fn block(&self, number: usize) -> Option<&Page> {
        self.blocks.get(number)?.as_ref()
    }

    pub fn is_written(&self, block: usize) -> bool {
        self.block(block).is_some()
    }

    /// Blocks that hold anything but zeros.
    pub fn written_blocks(&self) -> Vec<u64> {
        let anything = |page: &Page| page.iter().any(|byte| *byte != 0);
        let blocks = self.blocks.iter().enumerate();
        let written = blocks.filter(|(_, page)| page.as_ref().is_some_and(anything));
        written.map(|(number, _)| number as u64).collect()
    }

    /// Reads what there is of `into.len()` bytes.
    pub fn read(&self, offset: usize, into: &mut [u8]) -> usize {
        let len = into.len().min(self.size.saturating_sub(offset));
        let (mut from, end) = (offset, offset + len);
        while from < end {
            let to = end.min((from / BLOCK + 1) * BLOCK);
            let part = &mut into[from - offset..to - offset];
            match self.block(from / BLOCK) {
                Some(page) => part.copy_from_slice(&page[from % BLOCK..from % BLOCK + part.len()]),
                None => part.fill(0),
            }
            from = to;
        }
        len
    }

    pub fn bytes(&self, offset: usize, len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        let got = self.read(offset, &mut bytes);
        bytes.truncate(got);
        bytes
    }

    /// Writes whole blocks, of which only some sectors arrive, counted from the first of these.
    pub fn write(&mut self, offset: usize, bytes: &[u8], mut arrives: impl FnMut(usize) -> bool) {
        assert_eq!(
            (offset % BLOCK, bytes.len() % BLOCK),
            (0, 0),
            "whole blocks"
        );
        for (at, new) in bytes.chunks(BLOCK).enumerate() {
            let mut mask = [false; BLOCK / SECTOR];
            for (sector, arrived) in mask.iter_mut().enumerate() {
                *arrived = arrives(at * BLOCK / SECTOR + sector);
            }
            if mask.iter().any(|arrived| *arrived) {
                self.write_block(offset / BLOCK + at, new, &mask);
            }
        }
    }

    fn write_block(&mut self, number: usize, new: &[u8], mask: &[bool]) {
        let mut block = match self.block(number) {
            Some(page) => page.to_vec(),
            None => vec![0; BLOCK],
        };
        for (sector, _) in mask.iter().enumerate().filter(|(_, arrived)| **arrived) {
            let part = sector * SECTOR..(sector + 1) * SECTOR;
            block[part.clone()].copy_from_slice(&new[part]);
        }
        let blocks = Rc::make_mut(&mut self.blocks);
        if blocks.len() <= number {
            blocks.resize(number + 1, None);
        }
        blocks[number] = Some(block.into());
        self.size = self.size.max((number + 1) * BLOCK);
    }

    /// Cuts the file; what comes into being again behind the cut was never written.
    pub fn truncate(&mut self, size: usize) {
        if size < self.size {
            self.size = size;
            Rc::make_mut(&mut self.blocks).truncate(size.div_ceil(BLOCK));
        }
    }
}
