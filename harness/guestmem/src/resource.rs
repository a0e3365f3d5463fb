//! The resource tree behind /proc/iomem: who owns a physical address.

use crate::layout::ResourceLayout;
use crate::pagetable::Virt;
use crate::problems::Words;
use std::collections::HashSet;

/// Resources read at most.
const MAX_RESOURCES: usize = 1 << 14;
/// Bytes of a name.
const MAX_NAME: usize = 64;

/// A loaded tree.
#[derive(Default)]
pub(crate) struct Resources {
    nodes: Vec<Node>,
    /// Why the tree isn't whole.
    pub(crate) problems: Words,
}

struct Node {
    start: u64,
    last: u64,
    name: u64,
    depth: u32,
}

impl Resources {
    /// Loads the tree whose root is at `root`.
    pub(crate) fn load(virt: &Virt, layout: &ResourceLayout, root: u64) -> Resources {
        let mut tree = Resources::default();
        let mut seen = HashSet::new();
        let mut todo = vec![(root, 0)];
        while let Some((address, depth)) = todo.pop() {
            if !seen.insert(address) {
                tree.problems
                    .push(format!("the resource at {address:#x} is in the tree twice"));
                continue;
            }
            if seen.len() > MAX_RESOURCES {
                tree.problems
                    .push(format!("the tree has more than {MAX_RESOURCES} resources"));
                break;
            }
            let mut bytes = vec![0; layout.size.min(4096)];
            if let Err(e) = virt.read(address, &mut bytes) {
                tree.problems
                    .push(format!("the resource at {address:#x}: {e}"));
                continue;
            }
            let [start, last, name, sibling, child] = layout.at.map(|at| {
                let word = bytes.get(at..).and_then(|b| b.first_chunk::<8>());
                word.map_or(0, |w| u64::from_le_bytes(*w))
            });
            tree.nodes.push(Node {
                start,
                last,
                name,
                depth,
            });
            if sibling != 0 {
                todo.push((sibling, depth));
            }
            if child != 0 {
                todo.push((child, depth + 1));
            }
        }
        tree
    }

    /// The name of the innermost resource at `address`; the root doesn't count.
    pub(crate) fn owner(&self, virt: &Virt, address: u64) -> Option<String> {
        let inside = |n: &&Node| n.depth > 0 && (n.start..=n.last).contains(&address);
        let node = self.nodes.iter().filter(inside).max_by_key(|n| n.depth)?;
        let name = virt.string(node.name, MAX_NAME).ok()?;
        // A kernel's names are printable ASCII; anything else is told by its code.
        let name = name.escape_default().to_string();
        (!name.is_empty()).then_some(name)
    }
}
