/** What each recipe is, and what each of its settings does: for somebody who does this for the first time. */

export interface RecipeWords {
  title: string;
  /** In one sentence, what comes out of what. */
  what: string;
  needs: string;
  takes: string;
  gives: string;
}

export interface SettingWords {
  name: string;
  /** What it is when left empty, where that is not for the program to choose. */
  blank?: string;
  help: string;
}

export const recipes: Record<string, RecipeWords> = {
  'first-light': {
    title: 'Your first model',
    what: 'From nothing to a small model that chats about one narrow subject. All stages, one after the other.',
    needs: 'Nothing: the data comes with the recipe.',
    takes: 'About half an hour.',
    gives: 'A tiny model that answers, and an idea of how it all fits together.',
  },
  pretrain: {
    title: 'A model from your texts',
    what: 'Begins with random weights and learns to go on with text. It picks up the language, the style and the facts of what you give it.',
    needs: 'Plain texts, some megabytes or more.',
    takes: 'Minutes for a toy, a night for something that writes well.',
    gives: 'A model that continues text. It does not answer questions yet: that is the next stage.',
  },
  sft: {
    title: 'Teach a model to answer',
    what: 'Takes a model that is there and shows it conversations until it answers in the same way. Only what the assistant says is learnt.',
    needs: 'Some hundred conversations or more, and a model to begin with.',
    takes: 'Minutes to hours, by the size of the model.',
    gives: 'The same model with your tone, format or subject.',
  },
  dpo: {
    title: 'Teach a model what you prefer',
    what: 'Shows a model pairs of answers, a better and a worse one, and makes the better kind likelier. It stays close to the model it was.',
    needs: 'Some hundred pairs or more, and a model that already answers.',
    takes: 'Minutes to hours, by the size of the model.',
    gives: 'The same model, leaning towards the answers you like.',
  },
};

export const settings: Record<string, SettingWords> = {
  quick: {
    name: 'Quick look',
    help: 'Everything much smaller: each stage takes seconds, and the model learns next to nothing.',
  },
  depth: {
    name: 'Depth',
    help: 'How many layers; the width follows from it. This is the one dial for the size of the model: 4 is a toy that is done in minutes, 12 already takes many hours on a small machine.',
  },
  budget: {
    name: 'Time to train for',
    help: 'Such as 30m or 8h. Where no depth is given, the depth follows as well: the best model for that time.',
  },
  tokens: {
    name: 'Tokens to train on',
    help: 'Such as 20M. Left alone, 20 for each weight: what makes the best use of the arithmetic.',
  },
  flops: {
    name: 'Operations to spend',
    help: 'The arithmetic of the whole run, such as 1e15.',
  },
  vocab_size: {
    name: 'Vocabulary size',
    help: 'How many pieces of text the model knows as one token. It is learnt from your texts. More pieces make shorter sequences and a larger model.',
  },
  tokenizer: {
    name: 'Vocabulary',
    help: 'Take the vocabulary of another model instead of learning one.',
  },
  tied: {
    name: 'Share input and output weights',
    help: 'The table that reads tokens also writes them: a smaller file, a slightly worse model.',
  },
  seq_len: {
    name: 'Longest sequence',
    help: 'How many tokens the model sees at once. What is longer is cut. Longer ones need more memory and time.',
  },
  window: {
    name: 'Window',
    blank: 'everything',
    help: 'Tokens look back at no more than so many, in all layers but every sixth: with fewer than 6 layers, in all of them. It must be shorter than the longest sequence. Left alone, they look back at everything.',
  },
  step_tokens: {
    name: 'Tokens of a step',
    help: 'After so many tokens the weights are moved once. More make each step steadier and leave fewer steps.',
  },
  batch_tokens: {
    name: 'Tokens at once',
    help: 'How many tokens go through the model together. Only memory and speed depend on it, not the result.',
  },
  optimizer: {
    name: 'Optimiser',
    help: 'How the gradient becomes a step. Muon learns faster from nothing; AdamW is the usual one.',
  },
  lr: {
    name: 'Learning rate',
    help: 'How far each step moves the weights. Too high and the loss jumps, too low and nothing is learnt. Left alone, it follows from the width of the model.',
  },
  lr_scale: {
    name: 'Factor of the learning rates',
    help: 'The rates follow from the depth; this multiplies all of them.',
  },
  decay: {
    name: 'Course of the learning rate',
    help: 'How it goes down towards the end of the run.',
  },
  products: {
    name: 'Precision of products',
    help: 'bf16 is about twice as fast where the processor has it; sums and weights stay in f32 in any case.',
  },
  clip: {
    name: 'Longest gradient',
    help: 'Longer gradients are shortened to this, so that one odd batch cannot throw the model off. 0 is no limit.',
  },
  seed: {
    name: 'Seed',
    help: 'Decides the first weights and the order of the data. The same seed gives the same model, bit for bit.',
  },
  held_out: {
    name: 'Held-out share',
    help: 'This share of the data is never learnt from; the model is measured on it.',
  },
  languages: {
    name: 'Languages',
    help: 'Keep only texts in these languages, such as en or zh.',
  },
  language: {
    name: 'Languages',
    help: 'Keep only texts in these languages, such as en or zh.',
  },
  eval_every: {
    name: 'Steps between evaluations',
    help: 'At each one the held-out data is measured and samples are written. Left alone, there are 10 in a run.',
  },
  eval_tokens: {
    name: 'Tokens of an evaluation',
    help: 'How much held-out text is read each time. More is more exact and takes longer.',
  },
  patience: {
    name: 'Patience',
    blank: 'no limit',
    help: 'End the run after so many evaluations without a better one, with the weights of the best. Left alone, it goes to its end.',
  },
  samples: {
    name: 'Beginnings of samples',
    help: 'The model goes on with these at every evaluation. Left alone, a few short ones are taken.',
  },
  sample: {
    name: 'Beginnings of samples',
    help: 'The model goes on with these at every evaluation. Left alone, a few short ones are taken.',
  },
  checkpoint_every: {
    name: 'Time between checkpoints',
    help: 'At most so much work is lost if the power goes.',
  },
  type: {
    name: 'Number format of the model',
    help: 'f16 is half the size of f32 and as good for chatting.',
  },
  model_type: {
    name: 'Number format of the model',
    help: 'f16 is half the size of f32 and as good for chatting.',
  },
  skip_broken: {
    name: 'Leave out unreadable records',
    help: 'Otherwise the run stops at the first one and names it.',
  },
  threads: {
    name: 'Threads',
    help: 'How many processors the run may use. Fewer leave more for your chats; the result is the same.',
  },
  epochs: {
    name: 'Passes over the data',
    help: 'How often each record is learnt. More learns it better, and at some point by heart.',
  },
  beta: {
    name: 'Hold',
    help: 'How strongly the model is held to what it was (beta). Higher keeps it nearer, lower lets it lean further.',
  },
  lora: {
    name: 'Adapter rank',
    help: 'With 0 all weights are trained. With a rank such as 16 the model stays frozen and a small adapter beside it learns (LoRA): far less memory, a small file, nearly as good.',
  },
  lora_alpha: {
    name: 'Weight of the adapter',
    help: 'How strongly the adapter counts, relative to its rank.',
  },
};

/** What a choice is called, where its own name does not say it. */
export const choices: Record<string, string> = {
  wsd: 'Steady, then down (WSD)',
  cosine: 'Cosine',
  linear: 'Linear',
  constant: 'Constant',
  muon: 'Muon',
  adamw: 'AdamW',
};
