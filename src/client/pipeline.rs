//! Many single questions in flight at once.

use crate::claims::Requirement;
use crate::wire::push_verify;

use super::{Answer, Client, CouldNotAsk};

/// Questions about single tokens, each with a requirement of its own. They share the way to the
/// daemon, which answers those that arrive together as one batch.
pub struct Pipeline<'c, 'q> {
    client: &'c mut Client,
    questions: Vec<(&'q [u8], &'q Requirement)>,
}

impl<'c, 'q> Pipeline<'c, 'q> {
    pub(super) fn new(client: &'c mut Client) -> Pipeline<'c, 'q> {
        Pipeline { client, questions: Vec::new() }
    }

    /// Adds a question.
    pub fn push(&mut self, token: &'q [u8], need: &'q Requirement) -> &mut Self {
        self.questions.push((token, need));
        self
    }

    /// Asks all of them and gives the answers in the order of [`Pipeline::push`]. The questions
    /// are used up, so that the next ones can be added.
    pub fn run(&mut self) -> Result<Vec<Answer>, CouldNotAsk> {
        let questions = std::mem::take(&mut self.questions);
        self.client.call(|session| {
            let mut answers = vec![Answer::malformed(); questions.len()];
            let mut asked = Vec::with_capacity(questions.len());
            for (place, &(token, need)) in questions.iter().enumerate() {
                if let Some(digest) = session.digest(token)? {
                    asked.push((place, digest, need));
                }
            }
            let mut places = asked.iter().map(|&(place, ..)| place);
            session.ask(
                asked.len(),
                |index, out| {
                    let (_, digest, need) = asked[index];
                    push_verify(out, false, need, &[digest])
                },
                |_| 1,
                |evidence, row, claims| {
                    let place = places.next().expect("one row for each question");
                    answers[place] = Answer::of_row(evidence, &row, claims);
                },
            )?;
            Ok(answers)
        })
    }
}
