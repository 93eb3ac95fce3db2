//! Numbered questions to the peer that wait for their answers.

use std::collections::VecDeque;

/// How many questions are remembered: a peer that never answers must not make memory grow.
pub(crate) const MOST_UNANSWERED: usize = 32;

/// What is remembered of each question, oldest first. An answer also answers all earlier questions.
///
/// When there are too many, the oldest entry stays, because its answer comes next, and so does the newest. Between
/// them, the entry closest to its neighbours is removed, so that the remaining ones are spread over the time of an
/// answer.
#[derive(Debug)]
pub(crate) struct Unanswered<T> {
    entries: VecDeque<(u64, T)>,
}

impl<T> Unanswered<T> {
    pub(crate) fn new() -> Self {
        Self { entries: VecDeque::new() }
    }

    /// Question `number` is sent; numbers rise. The first entry after `spared` is not removed either.
    pub(crate) fn push(&mut self, number: u64, value: T, spared: u64) {
        if self.entries.len() == MOST_UNANSWERED
            && let Some(at) = self.closest(spared)
        {
            self.entries.remove(at);
        }
        self.entries.push_back((number, value));
    }

    /// The peer has answered question `number`, and thus all earlier ones. Returns the last of these that is
    /// remembered.
    pub(crate) fn answer(&mut self, number: u64) -> Option<(u64, T)> {
        let answered = self.entries.partition_point(|(asked, _)| *asked <= number);
        self.entries.drain(..answered).next_back()
    }

    /// Puts an entry back at the front, because its question stands for another one that is still unanswered.
    pub(crate) fn put_back(&mut self, number: u64, value: T) {
        self.entries.push_front((number, value));
    }

    pub(crate) fn iter(&self) -> impl DoubleEndedIterator<Item = &(u64, T)> {
        self.entries.iter()
    }

    pub(crate) fn iter_mut(&mut self) -> impl DoubleEndedIterator<Item = &mut (u64, T)> {
        self.entries.iter_mut()
    }

    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    /// Which of the entries in the middle to remove.
    fn closest(&self, spared: u64) -> Option<usize> {
        let number = |at: usize| self.entries[at].0;
        let middle = 1..self.entries.len() - 1;
        middle
            .filter(|at| number(*at) <= spared || number(at - 1) > spared)
            .min_by_key(|at| number(at + 1) - number(at - 1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(questions: u64, spared: u64) -> Unanswered<u64> {
        let mut unanswered = Unanswered::new();
        for number in 1..=questions {
            unanswered.push(number, 10 * number, spared);
        }
        unanswered
    }

    fn numbers(unanswered: &Unanswered<u64>) -> Vec<u64> {
        unanswered.iter().map(|(number, _)| *number).collect()
    }

    #[test]
    fn an_answer_answers_all_before_it() {
        let mut unanswered = asked(3, 0);
        assert_eq!(unanswered.answer(2), Some((2, 20)));
        assert_eq!(unanswered.answer(1), None);
        assert_eq!(unanswered.answer(3), Some((3, 30)));
        assert_eq!(unanswered.len(), 0);
    }

    #[test]
    fn of_too_many_the_oldest_and_the_newest_stay_and_the_rest_is_spread() {
        for questions in 1..1_000 {
            let kept = numbers(&asked(questions, 0));
            assert!(kept.len() <= MOST_UNANSWERED);
            assert_eq!((kept[0], kept[kept.len() - 1]), (1, questions));
            let widest = kept.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap_or(1);
            assert!(widest <= (questions / 8).max(1), "{kept:?}");
        }
    }

    #[test]
    fn the_answer_to_a_forgotten_one_answers_what_is_remembered_before_it() {
        let mut unanswered = asked(100, 0);
        let kept = numbers(&unanswered);
        let forgotten = (2..100).find(|number| !kept.contains(number)).unwrap();
        assert_eq!(unanswered.answer(forgotten), Some((forgotten - 1, 10 * (forgotten - 1))));
    }

    #[test]
    fn the_first_behind_the_spared_one_stays() {
        assert!(numbers(&asked(1_000, 36)).contains(&37));
    }
}
